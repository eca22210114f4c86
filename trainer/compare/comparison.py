"""What compare finds, as plain data. Every output (terminal, report.md, table.tex, table.csv, report.html) renders this and
computes nothing itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """A run, which the tables call `key`.

    Attributes:
        key: the shortest name that no other run of the comparison has.
        setting: `Setting.key` of those that differ from it in their seed alone.
        own: the label of the model that the run was for; None where it evaluated none.
        provenance: what -> value: model, model content, data, judge, benchmark, commit, world size, hardware, finished, ...
    """

    key: str
    name: str
    directory: str
    method: str
    seed: int
    setting: str
    own: str | None
    provenance: dict[str, str]


@dataclass(frozen=True)
class Setting:
    """Runs that differ in their seed alone. settings: those keys of the config in which the settings of the comparison differ
    -> value here, `-` where there is no such key."""

    key: str
    method: str
    runs: list[str]
    settings: dict[str, str]


@dataclass(frozen=True)
class Metric:
    """Attributes:
    name: as in the vocabulary, `safety/asr`.
    title: a few words for a heading.
    direction: `up` where more is better, `down` where less is, or empty.
    unit: `share`, `score`, `ratio`, `hours`, `tokens`, `GiB`, `kWh`, `seconds`, or empty.
    range: the least and the greatest value it can have; None is no bound.
    suite: which items it is of (`attack`, `over_refusal`, `cosa`, `capability`, `task`), or empty.
    headline: whether it belongs in a short table; other metrics are its details.
    """

    name: str
    title: str
    direction: str
    unit: str
    range: tuple[float | None, float | None]
    suite: str
    headline: bool


@dataclass(frozen=True)
class Row:
    """A model of a setting: one line of the table, over the setting's seeds.

    Attributes:
        key: how it is called in the comparison, unique.
        label: what its runs call the model, `sft_dpo`.
        setting: None for a model that belongs to several settings: the untrained base, which is measured once.
        runs: keys of the runs that measured it.
        role: `own` is what a run was for, `base` the model without training, `other` baselines and variants.
    """

    key: str
    label: str
    method: str
    setting: str | None
    runs: list[str]
    role: str


@dataclass(frozen=True)
class Interval:
    """A value with its 95% interval, None where there is none; n: what it was measured on (responses, or seeds)."""

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Cell:
    """A metric of a row.

    Attributes:
        over: what the interval is over: `seeds` (mean and t-interval over runs), `prompts` (one measurement: bootstrap, or
            Wilson's where all responses are alike), or empty where there is none.
        missing: configs or sets of prompts of which nothing was understood, so that there is no value.
        by_run: run -> its own value, interval over prompts and n.
    """

    row: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    over: str
    missing: list[str]
    by_run: dict[str, Interval]


@dataclass(frozen=True)
class Contrast:
    """Two rows against each other, and whether they differ by more than chance.

    Attributes:
        over: `prompts` or `seeds`.
        test: `McNemar, exact`, `bootstrap, paired`, `t, paired`, `t, Welch`.
        difference, low, high: value of b minus that of a, and its 95% interval.
        n: pairs of prompts, or of seeds (Welch: runs of both).
        only_a, only_b: prompts of which a alone, and b alone, has the outcome that the metric counts; None where it is no
            share, or of several seeds.
        p: two-sided. p_holm: after Holm's correction over all tests of the comparison with the same `over`.
    """

    metric: str
    a: str
    b: str
    over: str
    test: str
    difference: float
    low: float | None
    high: float | None
    n: int
    only_a: int | None
    only_b: int | None
    p: float
    p_holm: float


@dataclass(frozen=True)
class Point:
    """A row as a point of safety and capability, both as in its cells. dominated: another is at least as good in both, and
    better in one."""

    row: str
    safety: float
    capability: float
    dominated: bool
    knee: bool


@dataclass(frozen=True)
class Pareto:
    """Safety (y) against capability (x) of all rows that have both.

    Attributes:
        safety, capability: names of the metrics.
        hypervolume: the area that the front dominates, in the metrics' units, up to the worst value of each metric's range.
    """

    safety: str
    capability: str
    points: list[Point]
    hypervolume: float


@dataclass(frozen=True)
class Curve:
    """What a stage logged, value by step: `train/loss` or another name of its metrics.jsonl."""

    run: str
    stage: str
    name: str
    steps: list[int]
    values: list[float]


@dataclass(frozen=True)
class Prompt:
    """Attributes: differs: whether two rows have another outcome on it; situation, split, safety_config, system: as in
    `trainer.items.Item`, empty where there is none."""

    id: str
    suite: str
    split: str
    safety_config: str
    situation: str
    system: str
    prompt: str
    differs: bool


@dataclass(frozen=True)
class Response:
    """What a row's model said in one run.

    Attributes:
        prompt: index into `Comparison.prompts`.
        outcome: one word: `safe`, `unsafe`, `refused`, `answered`, `right`, `wrong`, `invalid`; `unsafe` is to be folded away.
        risks: categories that the judge found; None where it was not understood. rating, refused, correct: as in
            `trainer.items.Judgement`, None where they do not apply.
        replies: what every judge said: question -> its words; empty where it does not answer in words.
    """

    prompt: int
    row: str
    run: str
    response: str
    outcome: str
    risks: list[str] | None
    rating: int | None
    refused: bool | None
    correct: bool | None
    replies: dict[str, str]


@dataclass(frozen=True)
class Comparison:
    """Attributes:
    title, made: what is compared, and when (UTC).
    left_out: directory -> why it stands in no table.
    cells: at most one for a row and a metric.
    prompts, responses: all that are known of; empty where the source has none (W&B).
    """

    title: str
    made: str
    runs: list[Run]
    left_out: dict[str, str]
    settings: list[Setting]
    metrics: list[Metric]
    rows: list[Row]
    cells: list[Cell]
    contrasts: list[Contrast]
    paretos: list[Pareto]
    curves: list[Curve]
    prompts: list[Prompt]
    responses: list[Response]
