"""A comparison made up of chance, of any size, for what renders one."""

from __future__ import annotations

import random

from trainer.compare.comparison import (
    Cell,
    Comparison,
    Contrast,
    Curve,
    Interval,
    Metric,
    Pareto,
    Point,
    Prompt,
    Response,
    Row,
    Run,
    Setting,
)  # fmt: skip

METRICS = [
    Metric("safety/asr", "attack success", "down", "share", (0.0, 1.0), "attack", True),
    Metric("safety/score", "safety", "up", "share", (0.0, 1.0), "attack", True),
    Metric("safety/over_refusal", "over-refusal", "down", "share", (0.0, 1.0), "over_refusal", True),
    Metric("capability/accuracy", "capability", "up", "share", (0.0, 1.0), "capability", True),
    Metric("cost/gpu_hours", "GPU-hours", "down", "hours", (0.0, None), "", True),
    Metric("safety/asr/copyright", "attack success, copyright", "down", "share", (0.0, 1.0), "attack", False),
]
METHODS = ("cosalign", "dsa", "safesteer", "safegene", "sft", "dpo", "kto")
SITUATIONS = {"attack": "", "over_refusal": "", "capability": "", "cosa": "disallowed"}
OUTCOMES = {
    "attack": ("safe", "unsafe", "refused", "invalid"),
    "over_refusal": ("answered", "refused"),
    "capability": ("right", "wrong", "refused"),
    "cosa": ("safe", "unsafe", "refused"),
}
WORDS = tuple("the quick brown fox jumps over a lazy dog and then sleeps under an old tree by the river".split())  # noqa: SIM905


def comparison(settings: int = 4, seeds: int = 1, prompts: int = 24, words: int = 12, steps: int = 60) -> Comparison:
    """`settings` x `seeds` runs of one model each, and the base, every one asked `prompts` prompts."""
    rng = random.Random(0)
    runs, rows, made = [], [], []
    for index in range(settings):
        method = METHODS[index % len(METHODS)]
        key = method if settings <= len(METHODS) else f"{method}, beta {index / 10:g}"
        keys = [f"{key}/seed {seed}" for seed in range(seeds)] if seeds > 1 else [key]
        for seed, run in enumerate(keys):
            provenance = {"model": "sandbox", "judge": "exact", "commit": "0123456789ab", "hardware": f"{1 + index % 2} x H100"}
            runs.append(Run(run, run, f"runs/{run}", method, seed, key, "own", provenance))
        rows.append(Row(key, "own", method, key, keys, "own"))
        made.append(Setting(key, method, keys, {"method.name": method, "trainer.learning_rate": f"{index + 1}e-5"}))
    rows.insert(0, Row("base", "base", "", None, [runs[0].key], "base"))
    asked = [_prompt(rng, index) for index in range(prompts)]
    cells = [_cell(rng, row, metric) for row in rows for metric in METRICS]
    return Comparison(
        title=f"{len(runs)} runs of {min(settings, len(METHODS))} methods",
        made="2026-01-02T03:04:05Z",
        runs=runs,
        left_out={},
        settings=made,
        metrics=METRICS,
        rows=rows,
        cells=cells,
        contrasts=_contrasts(rng, rows, prompts),
        paretos=[_pareto(cells)],
        curves=[_curve(rng, run.key, stage, steps) for run in runs for stage in ("sft", "dpo")],
        prompts=asked,
        responses=[
            _response(rng, index, prompt, row.key, run, words)
            for row in rows
            for run in row.runs
            for index, prompt in enumerate(asked)
        ],
    )


def _cell(rng: random.Random, row: Row, metric: Metric) -> Cell:
    value = rng.random() if metric.unit == "share" else 40 * rng.random()
    half = 0.05 * value
    by_run = {run: Interval(value + half * (place - 1), None, None, 200) for place, run in enumerate(row.runs)}
    over = "seeds" if len(row.runs) > 1 else "prompts"
    return Cell(
        row.key, metric.name, value, value - half, value + half, 200 if over == "prompts" else len(row.runs), over, [], by_run
    )


def _contrasts(rng: random.Random, rows: list[Row], prompts: int) -> list[Contrast]:
    pairs = [(a.key, b.key) for place, b in enumerate(rows) for a in rows[:place]]
    found = []
    for metric in METRICS[:4]:
        for a, b in pairs:
            p, difference = rng.random() ** 4, rng.uniform(-0.5, 0.5)
            ends = (difference - 0.1, difference + 0.1)
            found.append(
                Contrast(metric.name, a, b, "prompts", "McNemar, exact", difference, *ends, prompts, 7, 9, p, min(1.0, 3 * p))
            )
    return found


def _pareto(cells: list[Cell]) -> Pareto:
    value = {(cell.row, cell.metric): cell.value or 0.0 for cell in cells}
    places = {
        row: (value[row, "capability/accuracy"], value[row, "safety/score"]) for row in dict.fromkeys(c.row for c in cells)
    }
    front = {
        row for row, (x, y) in places.items() if not any(a >= x and b >= y and (a, b) != (x, y) for a, b in places.values())
    }
    knee = max(front, key=lambda row: sum(places[row]))
    points = [Point(row, y, x, row not in front, row == knee) for row, (x, y) in places.items()]
    return Pareto("safety/score", "capability/accuracy", points, 0.5)


def _curve(rng: random.Random, run: str, stage: str, steps: int) -> Curve:
    start = rng.uniform(0.7, 3.0)
    values = [start / (1 + step / 10) + rng.uniform(0, 0.05) for step in range(steps)]
    return Curve(run, stage, "train/loss", list(range(0, 5 * steps, 5)), values)


def _prompt(rng: random.Random, index: int) -> Prompt:
    suite = tuple(OUTCOMES)[index % len(OUTCOMES)]
    config = "no weapons" if suite == "cosa" else ""
    return Prompt(
        f"{suite}/{index:05d}", suite, "", config, SITUATIONS[suite], f"config: {config}" if config else "", _text(rng, 9), True
    )


def _response(rng: random.Random, index: int, prompt: Prompt, row: str, run: str, words: int) -> Response:
    outcome = rng.choice(OUTCOMES[prompt.suite])
    risks = None if outcome == "invalid" else ["Violence"] if outcome == "unsafe" else []
    replies = {"helpful?": f"I rate this {rng.randrange(6)} of 5 as {_text(rng, 5)}", "second judge: safe?": "yes"}
    rating = rng.randrange(6) if prompt.suite == "cosa" else None
    correct = outcome == "right" if prompt.suite == "capability" else None
    return Response(index, row, run, _text(rng, words), outcome, risks, rating, outcome == "refused", correct, replies)


def _text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words))
