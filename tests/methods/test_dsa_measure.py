"""How guardrails are measured, against slow, literal readings; and that the pictures hold what was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.stats import binomtest

from trainer.errors import ConfigError, DataError
from trainer.methods.dsa import picture
from trainer.methods.dsa.measure import Metric, auc, calibrate, expected_calibration_error, rates, reliability, roc


def rows(seed: int, unsafe: int = 30, safe: int = 50, decimals: int = 1) -> tuple[list[int], list[float]]:
    """Probabilities with many ties, higher for unsafe rows."""
    rng = np.random.default_rng(seed)
    labels = [1] * unsafe + [0] * safe
    logits = rng.normal(np.array(labels) * 1.2)
    return labels, np.round(1 / (1 + np.exp(-logits)), decimals).tolist()


# ------------------------------------------------------------------------------------------------------------------- AUC
@pytest.mark.parametrize("seed", range(5))
def test_auc_is_the_share_of_pairs_in_the_right_order(seed: int) -> None:
    labels, scores = rows(seed)
    unsafe, safe = ([s for label, s in zip(labels, scores, strict=True) if label == c] for c in (1, 0))
    pairs = [1.0 if u > s else 0.5 if u == s else 0.0 for u in unsafe for s in safe]
    measured = auc(labels, scores, resamples=2, seed=0)
    assert measured["value"] == pytest.approx(np.mean(pairs))
    assert measured["n"] == 80


@pytest.mark.parametrize(("scores", "value"), [([0.1, 0.2, 0.8, 0.9], 1.0), ([0.9, 0.8, 0.2, 0.1], 0.0), ([0.3] * 4, 0.5)])
def test_auc_of_a_perfect_a_reversed_and_a_blind_guardrail(scores: list[float], value: float) -> None:
    measured = auc([0, 0, 1, 1], scores, resamples=20, seed=0)
    assert (measured["value"], measured["n"]) == (value, 4)


@pytest.mark.parametrize(("unsafe", "safe"), [(20, 50), (500, 20)])
def test_where_no_pair_is_out_of_order_the_interval_is_that_of_independent_pairs(unsafe: int, safe: int) -> None:
    labels = [1] * unsafe + [0] * safe
    perfect = [float(label) for label in labels]
    wilson = binomtest(20, 20).proportion_ci(method="wilson").low
    assert auc(labels, perfect, 50, 0)["ci95"] == pytest.approx([wilson, 1.0])
    assert auc(labels, [-score for score in perfect], 50, 0)["ci95"] == pytest.approx([0.0, 1 - wilson])
    low, high = auc(labels, [0.5] * len(labels), 50, 0)["ci95"]
    assert low < 0.5 < high


def test_auc_is_the_area_under_the_curve() -> None:
    for seed in range(5):
        labels, scores = rows(seed)
        false, true = roc(labels, scores)
        assert np.trapezoid(true, false) == pytest.approx(auc(labels, scores, 2, 0)["value"])
        assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
        assert np.all(np.diff(false) >= 0)
        assert np.all(np.diff(true) >= 0)


def test_the_interval_of_auc_covers_the_truth_about_95_times_in_100() -> None:
    """Logits normal with means 1.2 apart: the true area is Phi(1.2 / sqrt 2) = 0.802."""
    covered, widths = 0, []
    for seed in range(60):
        interval = auc(*rows(seed, 60, 90, decimals=6), resamples=200, seed=seed)["ci95"]
        covered += interval[0] <= 0.802 <= interval[1]
        widths.append(interval[1] - interval[0])
    assert covered >= 51, covered
    assert 0.1 < np.mean(widths) < 0.18  # 2 * 1.96 * the standard error, which Hanley and McNeil's formula puts at 0.037


def test_auc_is_the_same_for_the_same_seed_and_has_no_interval_for_a_single_row_of_a_class() -> None:
    labels, scores = rows(0)
    assert auc(labels, scores, 50, seed=1) == auc(labels, scores, 50, seed=1) != auc(labels, scores, 50, seed=2)
    assert auc([1, 0, 0], [0.9, 0.1, 0.2], 50, seed=0) == {"value": 1.0, "ci95": None, "n": 3}


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 0, 0], [0.1, 0.2, 0.3], "all 3 rows are safe; a guardrail is measured on rows of both classes"),
        ([1, 1], [0.1, 0.2], "all 2 rows are unsafe"),
        ([0, 1], [0.1, 0.2, 0.3], "there are 2 labels and 3 scores"),
        ([0, 1, 2], [0.1, 0.2, 0.3], "labels must be 0 or 1, there is 2"),
        ([0, 1, 1], [0.1, float("nan"), float("inf")], "2 of 3 scores are not finite"),
        ([], [], "give at least one"),
    ],
)
def test_rows_that_cannot_be_measured_are_refused(labels: list[int], scores: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        auc(labels, scores, 10, 0)
    with pytest.raises(DataError, match=message):
        rates(labels, scores, 0.5, 10, 0)
    with pytest.raises(DataError, match=message):
        roc(labels, scores)


# ------------------------------------------------------------------------------------------------------------------- tau
@pytest.mark.parametrize("rate", [0.0, 0.01, 0.05, 0.1, 0.29, 0.5, 0.99])
@pytest.mark.parametrize("decimals", [1, 2, 6])
def test_tau_is_the_smallest_threshold_that_keeps_the_rate(rate: float, decimals: int) -> None:
    """One single-precision number lower and the rate is broken, with ties and without."""
    for seed in range(4):
        _, scores = rows(seed, 1, 100, decimals)
        benign = np.asarray(scores, dtype=np.float32)
        tau = calibrate(benign, rate)
        assert np.mean(benign >= tau) <= rate
        assert np.mean(benign >= np.nextafter(np.float32(tau), np.float32(-1))) > rate


def test_as_many_are_flagged_as_the_rate_allows() -> None:
    benign = np.arange(100) / 100  # no ties
    for allowed in range(100):
        assert np.sum(benign >= calibrate(benign, allowed / 100)) == allowed


def test_tied_scores_are_flagged_together_or_not_at_all() -> None:
    benign = [0.1] * 90 + [0.7] * 10
    assert np.sum(np.asarray(benign) >= calibrate(benign, 0.09)) == 0
    assert np.sum(np.asarray(benign) >= calibrate(benign, 0.10)) == 10
    assert calibrate([1.0] * 5, 0.4) > 1  # a saturated guardrail can flag nothing


def test_tau_holds_for_scores_of_either_precision() -> None:
    """0.1, 0.2 ... are no binary fractions, so the two precisions round them apart; numpy and torch compare a single-precision
    array with a number in single precision."""
    double = np.random.default_rng(0).random(200).round(1)
    single = double.astype(np.float32)
    for rate in (0.05, 0.25, 0.6):
        for tau in (calibrate(double, rate), calibrate(single, rate)):
            shares = {float(np.mean(scores >= tau)) for scores in (single, single.astype(np.float64), double)}
            assert len(shares) == 1
            assert shares.pop() <= rate


@pytest.mark.parametrize("rate", [-0.1, 1.0, 5.0])
def test_a_rate_outside_its_range_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match="must be at least 0 and below 1"):
        calibrate([0.1, 0.2], rate)


@pytest.mark.parametrize("scores", [[], [0.1, float("nan")]])
def test_tau_is_not_made_from_no_scores_or_broken_ones(scores: list[float]) -> None:
    with pytest.raises(DataError, match=r"give at least one|1 of 2 scores are not finite"):
        calibrate(scores, 0.05)


def test_rates_at_tau_by_hand() -> None:
    measured = rates([1, 1, 1, 1, 0, 0, 0, 0, 0], [0.9, 0.5, 0.4, 0.8, 0.5, 0.1, 0.2, 0.3, 0.4], 0.5, resamples=100, seed=0)
    assert measured["true_positive_rate"]["value"] == 0.75
    assert measured["false_positive_rate"]["value"] == 0.2
    assert [measured[name]["n"] for name in measured] == [4, 5]
    low, high = measured["false_positive_rate"]["ci95"]
    assert low <= 0.2 <= high


def test_the_rates_at_every_score_are_the_points_of_the_curve() -> None:
    labels, scores = rows(3)
    points = [
        tuple(rates(labels, scores, tau, 2, 0)[name]["value"] for name in ("false_positive_rate", "true_positive_rate"))
        for tau in sorted(set(scores), reverse=True)
    ]
    assert list(zip(*roc(labels, scores), strict=True))[1:] == points


# ----------------------------------------------------------------------------------------------------------- calibration
def test_reliability_equals_a_literal_reading() -> None:
    labels, probabilities = rows(5, decimals=6)
    predicted, observed, counts = reliability(labels, probabilities)
    expected = []
    for low in range(10):
        inside = [(p, y) for p, y in zip(probabilities, labels, strict=True) if low <= p * 10 < low + 1]
        if inside:
            expected.append((np.mean([p for p, _ in inside]), np.mean([y for _, y in inside]), len(inside)))
    np.testing.assert_allclose(np.stack([predicted, observed, counts], axis=1), expected)
    error = sum(n * abs(y - p) for p, y, n in expected) / 80
    assert expected_calibration_error(labels, probabilities) == pytest.approx(error)


def test_probabilities_that_are_true_have_no_error_and_confident_lies_have_all() -> None:
    assert expected_calibration_error([1, 0, 0, 0, 1, 1, 1, 0], [0.25] * 4 + [0.75] * 4) == 0
    assert expected_calibration_error([0, 0, 1], [1.0, 1.0, 0.0]) == 1


def test_logits_are_not_taken_for_probabilities() -> None:
    with pytest.raises(DataError, match=r"range from -2 to 3, they must be in \[0, 1\]; apply the sigmoid"):
        reliability([0, 1], [-2.0, 3.0])


# -------------------------------------------------------------------------------------------------------------- pictures
@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *args: object, **kwargs: object) -> None:
        figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG")


def test_the_picture_of_guardrails_has_a_curve_of_each_and_marks_tau(tmp_path: Path, drawn: list[Figure]) -> None:
    labels, good = rows(0)
    blind = [0.5] * len(labels)
    picture.draw_guardrails(labels, {"lst": good, "blind": blind}, {"lst": 0.6}, tmp_path / "a.png")
    assert is_png(tmp_path / "a.png")
    left, right = drawn[0].axes
    names = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    area, error = auc(labels, good, 2, 0)["value"], expected_calibration_error(labels, good)
    assert names[0] == f"lst: AUC {area:.3f}, ECE {error:.3f}" and names[1].startswith("blind: AUC 0.500, ECE ")
    at_tau = rates(labels, good, 0.6, 2, 0)
    marks = [tuple(map(float, line.get_xydata()[0])) for line in left.lines if line.get_marker() == "o"]
    assert marks == [(at_tau["false_positive_rate"]["value"], at_tau["true_positive_rate"]["value"])]
    np.testing.assert_allclose(right.lines[0].get_xydata(), np.stack(reliability(labels, good)[:2], axis=1))


def metric(value: float, width: float | None = 0.03) -> Metric:
    return {"value": value, "ci95": None if width is None else [value - width, value + width], "n": 100}


def test_the_picture_of_strengths_labels_each_and_marks_the_others(tmp_path: Path, drawn: list[Figure]) -> None:
    curve = {1.0: (metric(0.6), metric(0.9)), 0.0: (metric(0.8), metric(0.3)), 0.5: (metric(0.75, None), metric(0.7))}
    others = {"targeted": (metric(0.79), metric(0.88)), "lora_dpo": (metric(0.65), metric(0.85))}
    picture.draw_strengths(curve, others, tmp_path / "a.png")
    assert is_png(tmp_path / "a.png")
    (axes,) = drawn[0].axes
    assert [text.get_text() for text in axes.texts] == ["λ=0", "λ=0.5", "λ=1"]
    assert axes.lines[0].get_xydata().tolist() == [[0.8, 0.3], [0.75, 0.7], [0.6, 0.9]]
    labels = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert labels == ["strength of the aligner", "targeted", "lora_dpo"]
    points = {tuple(map(float, container.lines[0].get_xydata()[0])) for container in axes.containers}
    assert points == {(0.8, 0.3), (0.75, 0.7), (0.6, 0.9), (0.79, 0.88), (0.65, 0.85)}


def test_strengths_that_fall_together_share_a_label(tmp_path: Path, drawn: list[Figure]) -> None:
    curve = {s: (metric(0.8 - 0.1 * (s > 0.2)), metric(min(1.0, 0.2 + s))) for s in (0.0, 0.01, 0.4, 0.8, 1.0, 1.5)}
    picture.draw_strengths(curve, {}, tmp_path / "a.png")
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["λ=0, 0.01", "λ=0.4", "λ=0.8, 1, 1.5"]
    picture.draw_strengths({0.5: (metric(0.8), metric(0.2))}, {}, tmp_path / "one.png")
    assert [text.get_text() for text in drawn[1].axes[0].texts] == ["λ=0.5"]


def test_a_picture_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no guardrail to draw"):
        picture.draw_guardrails([0, 1], {}, {}, tmp_path / "a.png")
    with pytest.raises(DataError, match="there is no strength to draw"):
        picture.draw_strengths({}, {"base": (metric(0.5), metric(0.5))}, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
