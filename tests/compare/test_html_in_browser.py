"""The page in a real browser: what is shown, what is hidden, and that nothing in it is run but its own scripts."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.compare.fabricated import comparison
from trainer.compare import html
from trainer.compare.comparison import Comparison, Pareto, Point, Response

Open = Callable[..., Any]
HOSTILE = (
    "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1><!-- <script> ' \" &lt; &amp; {{ 7*7 }} ]]> "
    "javascript:hacked \u2028 \u2029 \x00 \x7f \u202e \U0001f600 </style><svg onload=window.hacked=1>"
)


def _counts(shown: Any) -> tuple[int, int, int, int]:
    """prompts that pass the filter, of how many; responses, of how many"""
    words = shown.page.locator("#browser > .note").inner_text().replace(",", "").split()
    return int(words[0]), int(words[2]), int(words[4]), int(words[6])


def _of_prompt(given: Comparison) -> dict[int, list[Response]]:
    found: defaultdict[int, list[Response]] = defaultdict(list)
    for response in given.responses:
        found[response.prompt].append(response)
    return found


def _choose(shown: Any, label: str, value: str) -> None:
    shown.page.locator("#browser .controls").get_by_label(label, exact=True).select_option(label=value)


def _search(shown: Any, text: str, counted: re.Pattern[str]) -> None:
    """It is looked for when the typing has stopped."""
    shown.page.get_by_label("search").fill(text)
    shown.page.locator("#browser > .note").filter(has_text=counted).wait_for()


def test_tables_plots_and_responses_are_drawn(opened: Open) -> None:
    given = comparison(settings=4, seeds=2)
    shown = opened(given)
    assert shown.page.title() == given.title
    assert shown.texts("nav a") == [
        "What is compared", "Metrics", "Safety and its cost", "Paired tests", "Training", "Config differences", "Responses",
    ]  # fmt: skip
    assert shown.texts("#metrics tbody th") == [row.key for row in given.rows]
    assert shown.page.locator("#pareto .mark").count() == len(given.rows)
    assert shown.page.locator("#pareto .mark.dominated").count() == sum(point.dominated for point in given.paretos[0].points)
    assert shown.page.locator("#pareto .knee").count() == 1
    assert shown.texts("#curves figcaption") == ["sft", "dpo"]
    assert shown.page.locator("#curves .curve").count() == len(given.curves)
    assert shown.texts("#differences tbody th") == ["method.name", "trainer.learning_rate"]
    assert shown.texts("#provenance tbody th") == [run.key for run in given.runs]
    assert _counts(shown) == (len(given.prompts),) * 2 + (len(given.responses),) * 2


def test_a_table_is_sorted_by_a_click_and_what_has_no_value_comes_last(opened: Open) -> None:
    given = comparison(settings=5)
    name = "safety/asr"
    without = given.rows[2].key
    cells = [
        replace(cell, value=None, low=None, high=None, missing=["set one"])
        if (cell.row, cell.metric) == (without, name)
        else cell
        for cell in given.cells
    ]
    shown = opened(replace(given, cells=cells))
    known = {cell.row: cell.value for cell in cells if cell.metric == name and cell.value is not None}
    heading = shown.page.locator("#metrics thead").get_by_text("attack success ↓")
    down = sorted(known, key=lambda row: -known[row])
    heading.click()
    assert shown.texts("#metrics tbody th") == [*down, without]
    heading.click()
    assert shown.texts("#metrics tbody th") == [*reversed(down), without]
    assert shown.page.locator("#metrics th[aria-sort=ascending]").inner_text().startswith("attack success")
    assert f"{without}: no judgement of set one was understood" in shown.texts("#notes li")


def test_the_short_table_has_the_headline_and_the_long_one_the_rest(opened: Open) -> None:
    given = comparison()
    shown = opened(given)
    headline = [metric.title for metric in given.metrics if metric.headline]
    columns = shown.page.locator("#metrics thead th")
    assert columns.count() == 1 + len(headline)
    shown.page.get_by_label("all metrics").check()
    assert columns.count() == 1 + len(given.metrics)


def test_the_filters_find_what_is_there(opened: Open) -> None:
    given = comparison(settings=3, prompts=40)
    shown = opened(given)
    prompts, of_prompt = given.prompts, _of_prompt(given)

    _choose(shown, "suite", "attack")
    assert _counts(shown)[0] == sum(prompt.suite == "attack" for prompt in prompts)
    _choose(shown, "verdict", "✕ unsafe")
    unsafe = [r for r in given.responses if prompts[r.prompt].suite == "attack" and r.outcome == "unsafe"]
    assert (_counts(shown)[0], _counts(shown)[2]) == (len({r.prompt for r in unsafe}), len(unsafe))
    _choose(shown, "suite", "all")
    _choose(shown, "verdict", "all")

    shown.page.get_by_label("only where models differ").check()
    assert _counts(shown)[0] == sum(len({r.outcome for r in found}) > 1 for found in of_prompt.values())
    shown.page.locator("#browser .menu summary").click()
    shown.page.get_by_role("button", name="none").click()
    assert _counts(shown)[0] == 0
    assert "No response passes the filter" in shown.page.locator(".detail").inner_text()
    pair = [given.rows[1].key, given.rows[2].key]
    for name in pair:
        shown.page.locator(".choices").get_by_label(name, exact=True).check()
    differ = [r for r in of_prompt.values() if len({one.outcome for one in r if one.row in pair}) > 1]
    assert _counts(shown)[0] == len(differ)
    shown.page.get_by_role("button", name="all", exact=True).click()
    shown.page.get_by_role("heading", name="Responses").click()  # elsewhere: the menu closes
    assert not shown.page.locator(".choices").is_visible()
    shown.page.get_by_label("only where models differ").uncheck()

    _search(shown, "no such text", re.compile("^0 of"))
    wanted = given.responses[7].response[:25].upper()  # in any case
    _search(shown, wanted, re.compile("^[1-9]"))
    texts = [(r, "\n".join((r.response, *r.replies.values(), prompts[r.prompt].prompt)).upper()) for r in given.responses]
    assert _counts(shown)[2] == sum(wanted in text for _, text in texts)


def test_what_may_harm_is_folded_until_it_is_clicked(opened: Open) -> None:
    given = comparison(settings=2, prompts=24)
    shown = opened(given)
    _choose(shown, "suite", "attack")
    prompt = given.prompts[0]
    first = next(r for r in given.responses if r.prompt == 0)
    assert prompt.suite == "attack"
    assert prompt.prompt not in shown.page.locator(".list").inner_text()
    detail = shown.page.locator(".detail")
    assert prompt.prompt not in detail.inner_text() and first.response not in detail.inner_text()
    detail.locator("details.folded summary", has_text="response").first.click()
    assert first.response in detail.inner_text() and prompt.prompt not in detail.inner_text()
    shown.page.get_by_label("show all folded text").check()
    assert prompt.prompt in detail.inner_text() and prompt.prompt in shown.page.locator(".list").inner_text()
    shown.page.get_by_label("show all folded text").uncheck()
    assert prompt.prompt not in detail.inner_text()
    _choose(shown, "suite", "over_refusal")
    assert given.prompts[1].prompt in detail.inner_text()
    assert not detail.locator("details.folded").count()


def test_every_judges_reply_is_there(opened: Open) -> None:
    given = comparison(settings=1)
    shown = opened(given)
    detail = shown.page.locator(".detail")
    said = next(r for r in given.responses if r.prompt == 0).replies
    assert said["helpful?"] not in detail.inner_text()
    detail.get_by_text("what the judge said").first.click()
    for question, reply in said.items():
        assert question in detail.inner_text() and reply in detail.inner_text()


def test_nothing_that_was_said_is_run_and_all_of_it_is_shown(opened: Open) -> None:
    given = comparison(settings=2, prompts=8)
    keys = {row.key: f"{row.key} {HOSTILE}" for row in given.rows}
    runs = {run.key: f"{run.key} {HOSTILE}" for run in given.runs}
    hostile = replace(
        given,
        title=HOSTILE,
        left_out={HOSTILE: HOSTILE},
        runs=[
            replace(run, key=runs[run.key], setting=HOSTILE, provenance={HOSTILE: f"{HOSTILE} {run.key}"}) for run in given.runs
        ],
        settings=[replace(one, key=HOSTILE, settings={HOSTILE: HOSTILE}) for one in given.settings],
        metrics=[replace(metric, title=f"{metric.title} {HOSTILE}") for metric in given.metrics],
        rows=[replace(row, key=keys[row.key], label=HOSTILE, method=HOSTILE) for row in given.rows],
        cells=[replace(cell, row=keys[cell.row]) for cell in given.cells],
        contrasts=[replace(one, a=keys[one.a], b=keys[one.b], test=HOSTILE) for one in given.contrasts],
        paretos=[replace(p, points=[replace(point, row=keys[point.row]) for point in p.points]) for p in given.paretos],
        curves=[replace(curve, run=runs[curve.run], stage=HOSTILE, name=HOSTILE) for curve in given.curves],
        prompts=[replace(p, prompt=HOSTILE, system=HOSTILE, situation=HOSTILE, safety_config=HOSTILE) for p in given.prompts],
        responses=[
            replace(r, row=keys[r.row], response=HOSTILE, risks=[HOSTILE], replies={HOSTILE: HOSTILE}, outcome=HOSTILE)
            for r in given.responses
        ],
    )
    shown = opened(hostile)
    shown.page.get_by_label("show all folded text").check()
    shown.page.locator(".detail").get_by_text("what the judge said").first.click()
    for selector in ("#pareto .mark", "#metrics tbody .metric"):
        shown.page.locator(selector).first.hover(force=True)
    shown.page.wait_for_timeout(200)  # an image that fails to load would say so by then
    assert shown.page.evaluate("window.hacked") is None
    assert not shown.page.locator("img, iframe, object, svg[onload]").count()
    seen = HOSTILE.replace("\x00", "\ufffd") if "\x00" not in "".join(shown.texts(".detail .text")) else HOSTILE
    assert shown.texts(".detail .text")[:3] == [seen] * 3  # prompt, safety config, response
    assert shown.texts("#notes li") == [f"left out: {seen}: {seen}"]


def test_a_lone_half_of_a_character_harms_nothing(opened: Open) -> None:
    given = comparison(settings=1, prompts=4)
    shown = opened(
        replace(given, prompts=[replace(p, suite="capability", prompt=f"half \ud800 {p.id}") for p in given.prompts])
    )
    assert shown.texts(".prompt .line:first-child")[0].startswith("half ")


def test_compressed_data_is_what_it_was(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    given = comparison(settings=2, prompts=12)
    plain = opened(given)
    monkeypatch.setattr(html, "_COMPRESSED", 10)
    packed = opened(given)
    assert packed.page.locator("script[type='application/gzip']").count() == 2
    assert packed.page.locator("main").inner_text() == plain.page.locator("main").inner_text()


def test_the_list_is_walked_with_the_keyboard_and_only_rows_in_sight_are_in_the_page(opened: Open) -> None:
    given = comparison(settings=2, prompts=3000, words=2, steps=2)
    shown = opened(given)
    assert 5 < shown.page.locator(".prompt").count() < 60
    shown.page.locator(".list").focus()
    shown.page.keyboard.press("End")
    shown.page.wait_for_selector(".prompt[aria-selected=true]")
    assert given.prompts[-1].id in shown.page.locator(".detail").inner_text()
    assert given.prompts[-1].id in shown.page.locator(".prompt[aria-selected=true]").inner_text()
    shown.page.keyboard.press("ArrowUp")
    assert given.prompts[-2].id in shown.page.locator(".detail").inner_text()
    assert shown.page.locator(".prompt").count() < 60


def test_a_point_tells_its_numbers_to_pointer_and_keyboard(opened: Open) -> None:
    given = comparison(settings=3)
    shown = opened(given)
    tooltip = shown.page.locator("#tooltip")
    mark = shown.page.locator("#pareto .mark").last
    name = mark.get_attribute("aria-label")
    value = next(cell for cell in given.cells if (cell.row, cell.metric) == (name, "safety/score"))
    for act in (mark.focus, mark.hover):
        act()
        assert name in tooltip.inner_text() and f"safety: {value.value:.3f}" in tooltip.inner_text()
        shown.page.keyboard.press("Escape")
        assert not tooltip.is_visible()
        shown.page.mouse.move(1, 1)


def test_up_and_right_is_better_whatever_is_measured(opened: Open) -> None:
    given = comparison(settings=6)
    values = {(cell.row, cell.metric): cell.value for cell in given.cells}
    asr = [(row.key, values[row.key, "safety/asr"], values[row.key, "capability/accuracy"]) for row in given.rows]
    points = [Point(row, y, x, dominated=False, knee=False) for row, y, x in asr]
    shown = opened(replace(given, paretos=[Pareto("safety/asr", "capability/accuracy", points, 0.5)]))
    marks = shown.page.locator("#pareto .mark")
    boxes = {mark.get_attribute("aria-label"): mark.bounding_box() for mark in marks.all()}
    assert sorted(boxes, key=lambda row: boxes[row]["y"]) == [row for row, y, _ in sorted(asr, key=lambda one: one[1])]
    assert sorted(boxes, key=lambda row: boxes[row]["x"]) == [row for row, _, x in sorted(asr, key=lambda one: one[2])]
    assert "attack success\u00a0↓, axis turned" in shown.texts("#pareto .axis")


def test_a_legend_switches_lines_off_and_on(opened: Open) -> None:
    shown = opened(comparison(settings=3, seeds=2))
    lines = shown.page.locator("#curves .curve")
    assert lines.count() == 12
    first = shown.page.locator("#curves .legend button").first
    first.click()
    assert lines.count() == 8 and first.get_attribute("aria-pressed") == "false"
    first.click()
    assert lines.count() == 12
    shown.page.locator("#curves").get_by_label("stage").select_option("dpo")
    assert shown.texts("#curves figcaption") == ["dpo"]


@pytest.mark.parametrize("width", [360, 800, 1600])
def test_the_page_is_as_wide_as_the_window(opened: Open, width: int) -> None:
    shown = opened(comparison(settings=8, seeds=2), viewport={"width": width, "height": 800})
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= width


# WCAG's contrast of two colours, from what the browser made of the style sheet.
CONTRAST = """(pair) => {
  const luminance = (name) => {
    const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const part = (at) => { const c = parseInt(hex.slice(at, at + 2), 16) / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
    return 0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5);
  };
  const [light, dark] = pair.map(luminance).sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}"""  # noqa: E501


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_read(opened: Open, scheme: str) -> None:
    shown = opened(comparison(settings=1), color_scheme=scheme)
    background = shown.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 28)"}[scheme]
    for ink in ("--ink", "--faint", "--link", "--bad", "--good", "--held", "--unsure"):
        for ground in ("--page", "--panel"):
            assert shown.page.evaluate(CONTRAST, [ink, ground]) >= 4.5, (ink, ground)
    for index in range(8):
        assert shown.page.evaluate(CONTRAST, [f"--c{index}", "--page"]) >= 3, index


def test_in_print_there_are_tables_and_no_controls(opened: Open) -> None:
    shown = opened(comparison(settings=2), color_scheme="dark")
    shown.page.emulate_media(media="print")
    assert shown.page.locator("#metrics table").is_visible()
    assert not shown.page.locator("#browser .controls").is_visible()
    assert shown.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_an_empty_comparison_says_so(opened: Open) -> None:
    given = comparison(settings=1)
    nothing = replace(given, cells=[], contrasts=[], paretos=[], curves=[], prompts=[], responses=[])
    shown = opened(nothing)
    assert "None were kept" in shown.page.locator("#responses-section").inner_text()
    assert shown.texts("nav a") == ["What is compared", "Metrics", "Config differences", "Responses"]


@pytest.mark.slow
def test_twenty_runs_with_a_hundred_thousand_responses(opened: Open) -> None:
    given = comparison(settings=20, prompts=5000, words=60, steps=400)
    shown = opened(given)
    assert _counts(shown)[3] == len(given.responses) == 105_000
    assert shown.page.locator("*").count() < 12_000
    wanted = given.responses[50_000].response
    _search(shown, wanted, re.compile("^1 of"))
    assert given.responses[50_000].response in "".join(shown.texts(".detail .text"))
