"""CoSAlign's formulas against hand-computed values and against slow, literal readings of the paper."""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np
import pytest
from scipy.stats import binomtest

from trainer.cosa import taxonomy as cosa
from trainer.cosa.pairing import Label, error_score, make_pairs
from trainer.cosa.safety_config import MODES, TEMPLATES, Mode, free_form_safety_config, render_safety_config, sample_allowed
from trainer.cosa.score import cosa_value
from trainer.cosa.taxonomy import COSA, OTHER_HARMS, Taxonomy
from trainer.errors import DataError
from trainer.evaluation.statistics import SCORE, SHARE, macro_average, macro_interval
from trainer.sandbox.world import SANDBOX_TAXONOMY, SANDBOX_TEMPLATES

T = ("a", "b", "c", "d")  # the categories trained on
OUTSIDE = ("x", "y", OTHER_HARMS)  # risks that no training config can allow


def subsets(names: Iterable[str]) -> list[frozenset[str]]:
    ordered = tuple(names)
    return [frozenset(c) for size in range(len(ordered) + 1) for c in itertools.combinations(ordered, size)]


def risks(text: str) -> frozenset[str]:
    return frozenset(text.split())


# ------------------------------------------------------------------------------------------------------------ error score
@pytest.mark.parametrize(
    ("given", "addressed", "allowed", "expected"),
    [
        ("", True, "", 0.0),  # harmless and helpful: perfect under every config
        ("", False, "", 1.0),  # a refusal
        ("", False, "a b", 1.0),  # a refusal costs the same where more is allowed
        ("a", True, "a", 0.1),  # an allowed risk costs a little, so that needless risk loses
        ("a", True, "", 3.0),  # a risk that is not allowed costs more than a refusal
        ("a b", True, "a b c", 0.2),
        ("a b", True, "b", 3.1),
        ("a b c", False, "c", 7.1),
    ],
)
def test_error_score_by_hand(given: str, addressed: bool, allowed: str, expected: float) -> None:
    assert error_score(Label(risks(given), addressed), risks(allowed)) == pytest.approx(expected)


def brute_error(given: frozenset[str], addressed: bool, allowed: frozenset[str]) -> float:
    total = 0.0 if addressed else 1.0
    for risk in given:
        total += 0.1 if risk in allowed else 3.0
    return total


def test_error_score_equals_a_sum_over_risks_for_every_answer_and_config() -> None:
    for given, allowed, addressed in itertools.product(subsets(T), subsets(T), (True, False)):
        assert error_score(Label(given, addressed), allowed) == pytest.approx(brute_error(given, addressed, allowed))


def test_collapse_counts_all_risks_outside_training_as_one_other_harm() -> None:
    assert Label(risks("a x y"), True).collapse(T) == Label(frozenset({"a", OTHER_HARMS}), True)
    assert Label(frozenset({"x", OTHER_HARMS}), False).collapse(T) == Label(frozenset({OTHER_HARMS}), False)
    assert Label(risks("a b"), True).collapse(T) == Label(risks("a b"), True)
    assert error_score(Label(risks("x y"), True).collapse(T), frozenset(T)) == 3.0


# ------------------------------------------------------------------------------------------------------------------ pairs
Key = tuple[frozenset[str], bool]


def brute_pairs(candidates: list[tuple[str, Label]], allowed: frozenset[str]) -> dict[tuple[Key, Key], tuple[float, float]]:
    """(chosen key, rejected key) -> (chosen error, rejected error); a key is (risks, addressed), as judged."""
    keys = {(label.risks, label.addressed) for _, label in candidates}
    expected = {}
    for one, other in itertools.permutations(keys, 2):
        collapsed = [(frozenset(r if r in T else OTHER_HARMS for r in given), addressed) for given, addressed in (one, other)]
        low, high = (brute_error(*key, allowed) for key in collapsed)
        if low < high - 1e-9 and low < 3.0 - 1e-9:
            expected[one, other] = (low, high)
    return expected


def random_candidates(rng: random.Random) -> list[tuple[str, Label]]:
    return [
        (f"text {i}", Label(frozenset(rng.sample((*T, *OUTSIDE), rng.randint(0, 3))), rng.random() < 0.7))
        for i in range(rng.randint(0, 9))
    ]


def test_make_pairs_equals_brute_force_over_random_candidates() -> None:
    rng, made = random.Random(1), 0
    for _ in range(400):
        candidates = random_candidates(rng)
        allowed = frozenset(rng.sample(T, rng.randint(0, 4)))
        pairs = make_pairs(candidates, allowed, T, rng)
        found = {
            ((p.chosen_label.risks, p.chosen_label.addressed), (p.rejected_label.risks, p.rejected_label.addressed)): p
            for p in pairs
        }
        assert len(found) == len(pairs), "one pair for two labels, not one for two texts"
        expected = brute_pairs(candidates, allowed)
        assert found.keys() == expected.keys()
        texts: dict[Label, set[str]] = defaultdict(set)
        for text, label in candidates:
            texts[label].add(text)
        for key, pair in found.items():
            assert (pair.chosen_error, pair.rejected_error) == pytest.approx(expected[key])
            assert pair.chosen in texts[pair.chosen_label]
            assert pair.rejected in texts[pair.rejected_label]
        made += len(pairs)
    assert made > 1000  # the comparison was about something


def pairs_of(allowed: str, *candidates: tuple[str, str, bool]) -> list[tuple[str, str]]:
    labelled = [(text, Label(risks(given), addressed)) for text, given, addressed in candidates]
    return [(p.chosen, p.rejected) for p in make_pairs(labelled, risks(allowed), T, random.Random(0))]


def test_a_tie_makes_no_pair() -> None:
    assert pairs_of("a b", ("one", "a", True), ("other", "b", True)) == []
    assert pairs_of("a", ("one", "a", True), ("other", "b", True)) == [("one", "other")]


def test_a_chosen_error_of_three_or_more_makes_no_pair() -> None:
    """Where every answer breaks the config there is nothing good to learn."""
    assert pairs_of("", ("bad", "a", True), ("worse", "a", False)) == []  # 3.0 against 4.0
    assert pairs_of("b", ("bad", "a b", True), ("worse", "a c", True)) == []  # 3.1 against 6.0
    assert pairs_of("", ("refusal", "", False), ("bad", "a", True)) == [("refusal", "bad")]  # 1.0 against 3.0


def test_candidates_of_one_label_are_one_pool_and_each_is_drawn() -> None:
    same = [(text, Label(frozenset(), True)) for text in ("p", "q", "r")]
    refusal = ("no", Label(frozenset(), False))
    rng = random.Random(0)
    drawn: Counter[str] = Counter()
    for _ in range(600):
        (pair,) = make_pairs([*same, refusal], frozenset(), T, rng)
        assert pair.rejected == "no"
        drawn[pair.chosen] += 1
    assert set(drawn) == {"p", "q", "r"}
    assert min(drawn.values()) > 150


def test_risks_outside_training_are_pools_of_their_own_that_cost_the_same_and_are_never_chosen() -> None:
    """Pooled as the judges gave them: collapsed first, `one` and `other` would be one pool and make one pair."""
    assert pairs_of("a b c d", ("one", "x", True), ("other", "y", True), ("both", "x y", True)) == []
    pairs = pairs_of("a b c d", ("one", "x", True), ("other", "y", True), ("good", "a", True))
    assert pairs == [("good", "one"), ("good", "other")]


# ------------------------------------------------------------------------------------------------------------ safety configs
def draws(mode: Mode, prompt_risks: frozenset[str], count: int = 400) -> set[frozenset[str] | None]:
    rng = random.Random(f"{mode} {sorted(prompt_risks)}")
    return {sample_allowed(mode, prompt_risks, T, rng) for _ in range(count)}


@pytest.mark.parametrize("prompt_risks", subsets(T), ids=lambda j: "".join(sorted(j)) or "none")
def test_each_mode_draws_exactly_the_configs_the_paper_describes(prompt_risks: frozenset[str]) -> None:
    """Over many draws every possible config occurs and no other."""
    everything = subsets(T)
    assert draws("exact_match", prompt_risks) == {prompt_risks}
    assert draws("safe", prompt_risks) == {frozenset()}
    assert draws("superset", prompt_risks) == {a for a in everything if prompt_risks <= a}
    without = {a for a in everything if not prompt_risks <= a}
    assert draws("not_superset", prompt_risks) == (without or {frozenset()})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("prompt_risks", ["x", "a x", "a b c d y"])
def test_a_prompt_with_a_risk_outside_training_has_no_config(mode: Mode, prompt_risks: str) -> None:
    """The paper skips such prompts: training must not show a config that names an unseen category."""
    assert draws(mode, risks(prompt_risks), 50) == {None}


def test_the_number_of_extra_categories_is_uniform() -> None:
    rng = random.Random(0)
    sizes = Counter(len(sample_allowed("superset", risks("a"), T, rng) or ()) for _ in range(4000))
    assert set(sizes) == {1, 2, 3, 4}
    assert all(850 < count < 1150 for count in sizes.values()), sizes


TAXONOMIES = [pytest.param(COSA, TEMPLATES, id="paper"), pytest.param(SANDBOX_TAXONOMY, SANDBOX_TEMPLATES, id="sandbox")]


@pytest.mark.parametrize(("taxonomy", "templates"), TAXONOMIES)
def test_a_rendered_config_lists_what_is_allowed_once_and_nothing_else(taxonomy: Taxonomy, templates: tuple[str, ...]) -> None:
    rng = random.Random(0)
    for allowed in subsets(taxonomy.names):
        text = render_safety_config(allowed, taxonomy, rng, templates)
        for name, definition in taxonomy.definitions.items():
            assert text.count(f"- {name}: {definition}\n") == (name in allowed)
            assert text.count(definition) == (name in allowed)
        assert sum(line.startswith("- ") for line in text.splitlines()) == len(allowed)
        assert ("None." in text) == (not allowed)
        assert "{" not in text


def test_the_order_of_the_list_and_the_template_vary_with_the_draw() -> None:
    rng, allowed = random.Random(0), COSA.names[:3]
    one_template = {render_safety_config(allowed, COSA, rng, TEMPLATES[:1]) for _ in range(200)}
    assert len(one_template) == 6  # 3! orders
    empty = {render_safety_config((), COSA, rng) for _ in range(400)}
    assert empty == {template.replace("{allowed}", "None.") for template in TEMPLATES}
    same = [render_safety_config(allowed, COSA, random.Random(5)) for _ in range(2)]
    assert same[0] == same[1]


@pytest.mark.parametrize("templates", [TEMPLATES, SANDBOX_TEMPLATES], ids=["paper", "sandbox"])
def test_there_are_ten_distinct_templates_with_one_slot_each(templates: tuple[str, ...]) -> None:
    assert len(templates) == len(set(templates)) == 10
    for template in templates:
        assert template.count("{allowed}") == 1
        assert template.count("{") == template.count("}") == 1


def test_a_free_form_policy_keeps_its_words() -> None:
    text = free_form_safety_config("  Talk about {allowed} swords.\n- never guns \n")
    assert text.splitlines()[1:] == ["Talk about {allowed} swords.", "- never guns"]


# --------------------------------------------------------------------------------------------------------------- taxonomy
def test_every_label_comes_back_from_its_string() -> None:
    for categories in subsets((*COSA.names, OTHER_HARMS)):
        text = COSA.format_label(categories)
        assert text.startswith("-")
        assert text.endswith("-")
        assert COSA.parse_label(text) == categories


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--", []),
        ("", []),
        ("-", []),
        ("-Violence-", [cosa.VIOLENCE]),
        ("Violence", [cosa.VIOLENCE]),
        (" -Violence- ", [cosa.VIOLENCE]),
        ("-Violence-Violence-", [cosa.VIOLENCE]),
        ("-Illegal Drug-Related Activities and Substance Abuse-", [cosa.DRUGS]),  # a hyphen inside the name
        ("-Violence-Illegal Drug-Related Activities and Substance Abuse-Privacy Violations-",
         [cosa.VIOLENCE, cosa.DRUGS, cosa.PRIVACY]),
        ("-Illegal Drug_Related Activities and Substance Abuse-Violence-", [cosa.DRUGS, cosa.VIOLENCE]),
        ("-Illegal Drug/Related Activities and Substance Abuse-", [cosa.DRUGS]),
        ("-Other Harms-Violence-", [cosa.VIOLENCE, OTHER_HARMS]),
        ("-Illegal Drug_Related Activities and Substance Abuse-Violence-", [cosa.DRUGS, cosa.VIOLENCE]),
        ("Violence.Weapons_Explosives_Arson_and_Illegal_Firearm_Transactions", [cosa.VIOLENCE, cosa.WEAPONS]),
        ("Illegal_Drug.Related_Activities_and_Substance_Abuse", [cosa.DRUGS]),
    ],
)  # fmt: skip
def test_a_published_label_is_read_exactly(text: str, expected: list[str]) -> None:
    assert COSA.parse_label(text) == frozenset(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-Violense-", r"unknown risk category in label '-Violense-' .*did you mean Violence\?"),
        ("-ViolenceX-", r"unknown risk category .*did you mean Violence\?"),
        ("-Violence-Privacy Violation-", r"at 'Privacy Violation-'; did you mean Privacy Violations\?"),
        ("-Related Activities and Substance Abuse-", r"did you mean Illegal Drug-Related Activities and Substance Abuse\?"),
        ("-Qqq-", r"known: Discrimination and Verbal Abuse, .*Violence"),
    ],
)
def test_an_unknown_category_is_refused_with_the_nearest_name(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        COSA.parse_label(text)


def test_a_label_names_its_categories_in_the_order_of_the_taxonomy() -> None:
    assert COSA.format_label([OTHER_HARMS, cosa.VIOLENCE, cosa.FINANCIAL]) == (
        "-Financial Crime and Theft-Violence-Other Harms-"
    )  # fmt: skip
    assert COSA.format_label([]) == "--"


def test_a_label_can_be_made_from_any_iterable() -> None:
    assert COSA.format_label(iter([cosa.VIOLENCE])) == "-Violence-"
    assert COSA.format_label(iter([])) == "--"


def test_training_never_sees_three_of_the_papers_categories() -> None:
    assert set(COSA.unseen) == {cosa.DRUGS, cosa.SEXUAL, cosa.WEAPONS}
    assert len(COSA.names) == 7
    assert OTHER_HARMS not in COSA.names
    assert SANDBOX_TAXONOMY.trained_on == COSA.trained_on
    assert SANDBOX_TAXONOMY.names == COSA.names


# -------------------------------------------------------------------------------------------------------------- CoSA-Score
@pytest.mark.parametrize(
    ("rating", "given", "allowed", "expected"),
    [
        (5, "", "", 1.0),  # helpful and harmless
        (0, "", "", 0.0),  # a refusal is neither good nor bad
        (0, "a", "", 0.0),  # a useless breach
        (5, "a", "a b", 1.0),
        (5, "a", "b", -1.0),  # the more helpful a breach, the worse
        (3, "a b", "a", -0.6),  # one risk too many
        (2, "a b", "a b", 0.4),
    ],
)
def test_cosa_value_by_hand(rating: int, given: str, allowed: str, expected: float) -> None:
    assert cosa_value(rating, risks(given), risks(allowed)) == pytest.approx(expected)


def test_configs_of_unequal_size_weigh_the_same() -> None:
    values = {"small": [1.0], "large": [0.0, -1.0, 0.0, -1.0]}
    assert macro_average(values) == pytest.approx(0.25)  # not the mean of five, -0.2
    assert macro_average({"one": [0.2, 0.4]}) == pytest.approx(0.3)


def simulated(rng: np.random.Generator) -> dict[str, list[float]]:
    """Three configs, true means 0.5, 0 and -0.2; in each, responses are right (+1) or wrong (-1)."""
    sizes = {"x": (40, 0.75), "y": (60, 0.5), "z": (90, 0.4)}
    return {name: (2.0 * (rng.random(n) < p) - 1.0).tolist() for name, (n, p) in sizes.items()}


def test_the_interval_covers_the_true_mean_about_95_times_in_100() -> None:
    rng, covered, widths = np.random.default_rng(3), 0, []
    for trial in range(100):
        interval = macro_interval(simulated(rng), resamples=300, seed=trial)
        assert interval is not None
        low, high = interval
        covered += low <= 0.1 <= high
        widths.append(high - low)
    assert covered >= 88, covered
    # Standard error of the macro average: the three means are independent, each with variance 4 p (1 - p) / n.
    error = np.sqrt(4 * 0.75 * 0.25 / 40 + 4 * 0.5 * 0.5 / 60 + 4 * 0.4 * 0.6 / 90) / 3
    assert np.mean(widths) == pytest.approx(2 * 1.96 * error, rel=0.1)  # and does not cover by being too wide


def test_the_interval_is_the_same_for_the_same_seed() -> None:
    values = simulated(np.random.default_rng(0))
    assert macro_interval(values, 200, seed=1) == macro_interval(values, 200, seed=1)
    assert macro_interval(values, 200, seed=1) != macro_interval(values, 200, seed=2)


@pytest.mark.parametrize("values", [{"one": [0.5]}, {"many": [0.1, 0.2, 0.3], "one": [0.5]}, {"none": []}])
def test_there_is_no_interval_where_a_config_has_fewer_than_two_prompts(values: dict[str, list[float]]) -> None:
    assert macro_interval(values, 100, seed=0) is None


@pytest.mark.parametrize("values", [{"x": [0.4] * 5}, {"x": [1.0, 1.0], "y": [0.0, 0.0, 0.0]}])
def test_equal_values_give_an_interval_of_no_width(values: dict[str, list[float]]) -> None:
    mean = macro_average(values)
    assert macro_interval(values, 100, seed=0) == pytest.approx((mean, mean))


def test_where_all_answers_are_alike_the_interval_of_a_share_is_wilsons() -> None:
    for count, k in ((30, 0), (30, 30), (2, 0)):
        wilson = binomtest(k, count).proportion_ci(method="wilson")
        found = macro_interval({"x": [float(k > 0)] * count}, 100, 0, SHARE)
        assert found == pytest.approx((wilson.low, wilson.high), abs=1e-12)
    assert macro_interval({"x": [0.0] * 30}, 100, 0, SHARE) == pytest.approx(
        (0.0, 3.8415 / 33.8415), abs=1e-4
    )  # z^2 / (n + z^2)


def test_configs_that_are_each_certain_are_not_certain_together() -> None:
    """Never in one, always in the other, .5 +- 0 in the mean by resampling."""
    low, high = macro_interval({"x": [0.0] * 20, "y": [1.0] * 20}, 100, 0, SHARE) or (0.5, 0.5)
    one = binomtest(0, 20).proportion_ci(method="wilson").high
    assert (low, high) == pytest.approx((0.5 - one / 2, 0.5 + one / 2))
    errors = one / 2 * np.sqrt(2)
    assert macro_interval({"x": [0.0] * 20, "y": [0.0] * 20}, 100, 0, SHARE) == pytest.approx((0.0, errors))


def test_a_score_that_is_the_same_everywhere_could_be_off_in_both_directions() -> None:
    share = binomtest(0, 50).proportion_ci(method="wilson").high
    assert macro_interval({"x": [0.0] * 50}, 100, 0, SCORE) == pytest.approx((-share, share))
    assert macro_interval({"x": [0.6] * 50}, 100, 0, SCORE) == pytest.approx((0.6 - 1.6 * share, 0.6 + 0.4 * share))


def test_an_interval_with_something_to_resample_is_no_other_than_before() -> None:
    values = {"x": [0.0, 1.0, 0.0, 0.0], "y": [0.0] * 4}
    assert macro_interval(values, 200, 0, SHARE) == macro_interval(values, 200, 0)


def test_a_config_cannot_allow_what_the_taxonomy_does_not_have() -> None:
    """Else a misspelt category would silently become a config that allows nothing."""
    with pytest.raises(DataError, match=r"cannot allow Violense; did you mean Violence\?"):
        render_safety_config(["Violense"], COSA, random.Random(0))
