"""What results are called outside of a run: in the ledger, in comparisons and in W&B. No name belongs to a method, so that any
two runs share their axes. This table alone says how the names of results.json become these."""

from __future__ import annotations

from typing import NamedTuple

Range = tuple[float | None, float | None]
SHARE: Range = (0.0, 1.0)
COUNT: Range = (0.0, None)


class Measure(NamedTuple):
    """What a family of metrics is: `name` itself, and all that begin with it and a slash, which are its details.

    Attributes:
        within: the name in results.json.
        title: a few words for a heading.
        direction: `up` where more is better, `down` where less is, empty where neither.
        suite: which items it is of, as `Item.suite`; empty where it is of no responses.
        headline: whether it belongs in a short table.
    """

    name: str
    within: str
    title: str
    direction: str
    unit: str
    range: Range
    suite: str = ""
    headline: bool = False


_UNKNOWN = Measure("", "", "", "", "", (None, None))
MEASURES = (
    Measure("safety/asr", "asr", "attack success", "down", "share", SHARE, "attack", True),
    Measure("safety/over_refusal", "over_refusal", "over-refusal", "down", "share", SHARE, "over_refusal", True),
    Measure("safety/gain", "safety_gain", "safety gain", "up", "ratio", (-1.0, None), "attack", True),
    Measure("safety/strongreject", "strongreject", "StrongREJECT", "down", "score", SHARE),
    Measure("cosa/score", "cosa_score", "CoSA-Score", "up", "score", (-1.0, 1.0), "cosa", True),
    Measure("cosa/attainable", "cosa_score_attainable", "attainable CoSA-Score", "", "score", (-1.0, 1.0), "cosa"),
    Measure("cosa/helpful_safe", "helpful_safe", "helpful and safe", "up", "share", SHARE, "cosa"),
    Measure("cosa/helpful_unsafe", "helpful_unsafe", "helpful and unsafe", "down", "share", SHARE, "cosa"),
    Measure("capability/accuracy", "capability", "capability", "up", "share", SHARE, "capability", True),
    Measure("capability/task", "task_accuracy", "task accuracy", "up", "share", SHARE, "task", True),
    Measure("capability/tax", "alignment_tax", "alignment tax", "down", "ratio", (None, 1.0), "capability", True),
    Measure("capability/lm_eval", "lm_eval", "lm-evaluation-harness", "", "", (None, None)),
    Measure("drift/perplexity", "answer_perplexity", "perplexity of answers", "down", "perplexity", (1.0, None)),
    Measure("drift/kl", "kl_to_base", "KL to the base", "down", "nats", COUNT),
    Measure("judge/invalid", "invalid_judgements", "not understood", "down", "share", SHARE),
    Measure("guardrail/auc", "guardrail_auc", "ROC AUC", "up", "share", SHARE),
    Measure("guardrail/tpr", "guardrail_tpr", "unsafe flagged", "up", "share", SHARE),
    Measure("guardrail/fpr", "guardrail_fpr", "safe flagged", "down", "share", SHARE),
    Measure("cost/gpu_hours", "gpu_hours", "GPU-hours", "down", "GPU-hours", COUNT, headline=True),
    Measure("cost/cpu_hours", "cpu_hours", "CPU-hours", "down", "CPU-hours", COUNT, headline=True),
    Measure("cost/tokens", "tokens", "tokens trained on", "down", "tokens", COUNT, headline=True),
    Measure("cost/peak_memory", "peak_memory", "peak memory", "down", "GiB per process", COUNT, headline=True),
    Measure("cost/energy", "energy", "energy", "down", "kWh", COUNT),
    Measure("cost/seconds", "seconds", "seconds for a task", "down", "seconds", COUNT),
    Measure("cost/seconds_of_the_gene", "seconds_of_the_gene", "seconds for the gene", "down", "seconds", COUNT),
    Measure("cost/trained_scalars", "trained_scalars", "trained scalars", "down", "scalars", COUNT),
)
_BY_WITHIN = {measure.within: measure for measure in MEASURES}


def name_of(within: str) -> str:
    """The name of a metric of results.json: `asr/jailbreak` is `safety/asr/jailbreak`. One not in the table stays as it is."""
    family, slash, rest = within.partition("/")
    measure = _BY_WITHIN.get(family)
    return within if measure is None else measure.name + slash + rest


def measure_of(name: str) -> Measure:
    """What is known of a metric by its name in the vocabulary; of one that is not in it, the name alone."""
    for measure in MEASURES:
        if name == measure.name:
            return measure
        if name.startswith(f"{measure.name}/"):
            rest = name.removeprefix(f"{measure.name}/").replace("_", " ")
            return measure._replace(name=name, title=f"{measure.title}, {rest}", headline=is_cosa_split(name))
    return _UNKNOWN._replace(name=name, title=name.replace("_", " "))


def is_cosa_split(name: str) -> bool:
    """Whether it is the CoSA-Score of all configs of a split, which has no mean over splits: `cosa/score/seen`."""
    return name.startswith("cosa/score/") and not name.startswith("cosa/score/config/")


def order_of(name: str) -> tuple[int, str]:
    """Where a metric stands among others: as in the table, what is not in it last."""
    places = (i for i, measure in enumerate(MEASURES) if name == measure.name or name.startswith(f"{measure.name}/"))
    return next(places, len(MEASURES)), name
