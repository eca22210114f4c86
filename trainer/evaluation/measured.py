"""What suites measure on the loaded models themselves, where no answers are judged: likelihoods, tasks of another library."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from trainer.config.bases import SuiteSection
from trainer.dotted import resolve
from trainer.evaluation.kept import Kept
from trainer.evaluation.metrics import Metrics, entry, relative
from trainer.evaluation.statistics import SHARE
from trainer.items import Contender
from trainer.pipeline.context import StageContext
from trainer.record import fingerprint_of

Loaded = Callable[[str], AbstractContextManager[tuple[Any, Any]]]  # weights of a contender -> the model and its tokenizer


@dataclass(frozen=True)
class Unit:
    """What is measured at once, on one model; derived classes say of what, in plain values."""

    weights: str


U = TypeVar("U", bound=Unit)


@dataclass
class Measured:
    """What was measured of one contender.

    Attributes:
        metrics: ready entries.
        right: task -> for each of its questions, in the same order for every model, whether it was right, or how much: 0 to 1.
    """

    metrics: Metrics = field(default_factory=dict)
    right: dict[str, list[float]] = field(default_factory=dict)


# What `SuiteSection.measured` names: (suite, context, contenders, loaded) -> label -> what was measured. All ranks call it
# together; the first gets all. What it has written into the stage's directory it does not measure again.
Measure = Callable[[SuiteSection, StageContext, Sequence[Contender], Loaded], dict[str, Measured]]


def measure_together(
    context: StageContext, loaded: Loaded, suites: Iterable[tuple[SuiteSection, Sequence[Contender]]]
) -> dict[str, Measured]:
    """All that the suites measure, by contender. All ranks call it together.

    Args:
        suites: each with the contenders that it compares.
    """
    found: dict[str, Measured] = {}
    for suite, contenders in suites:
        assert suite.measured is not None
        measure: Measure = resolve(suite.measured)
        for label, measured in measure(suite, context, contenders, loaded).items():
            of_label = found.setdefault(label, Measured())
            of_label.metrics |= measured.metrics
            of_label.right |= measured.right
    return found


def measure_left(
    context: StageContext,
    name: str,
    units: Sequence[U],
    loaded: Loaded,
    measure: Callable[[Sequence[U], Any, Any], Iterable[tuple[U, Any]]],
    prepare: Callable[[Sequence[U]], None] | None = None,
) -> dict[U, Any]:
    """What was measured of each unit; what an earlier start has measured is not measured again. All ranks call it together, and
    all get all.

    Args:
        name: of what is measured, and of the folder in the stage's directory that it is kept in.
        measure: measures units of the same weights on their model, and gives each as it comes, as JSON knows it. Called on a
            rank for its share: every world_size-th unit of each weights.
        prepare: is given all of a rank's share before a model of it is loaded.
    """
    kept = Kept(context.stage_dir / name)
    done = context.together(kept.read)
    left = [unit for unit in dict.fromkeys(units) if key_of(unit) not in done]
    shares = {
        weights: [unit for unit in left if unit.weights == weights][context.rank :: context.world_size]
        for weights in dict.fromkeys(unit.weights for unit in left)
    }
    if prepare is not None:
        prepare([unit for share in shares.values() for unit in share])
    with kept.appending() as append:
        for weights, share in shares.items():
            if not share:
                continue
            with loaded(weights) as (model, tokenizer):
                for unit, value in measure(share, model, tokenizer):
                    append([(key_of(unit), value)])
    context.barrier()
    found = context.together(kept.read)
    return {unit: found[key_of(unit)] for unit in units}


def key_of(unit: Unit) -> str:
    return fingerprint_of(asdict(unit))


def add_measured(scores: dict[str, Metrics], measured: Mapping[str, Measured], resamples: int, seed: int) -> None:
    """Adds to the metrics of each model what was measured; where tasks were among it, `capability/<task>`, `capability`, their
    macro-average, and `alignment_tax` against the base, as of judged tasks (`metrics.against_base`)."""
    base = measured.get("base", Measured()).right
    for label, found in measured.items():
        metrics = scores.setdefault(label, {})
        metrics |= found.metrics
        if not found.right:
            continue
        metrics |= {f"capability/{task}": entry({task: right}, resamples, seed, SHARE) for task, right in found.right.items()}
        if "capability" in metrics:  # of judged tasks
            continue
        metrics["capability"] = entry(found.right, resamples, seed, SHARE)
        if label != "base" and base.keys() >= found.right.keys():
            pairs = {task: list(zip(right, base[task], strict=True)) for task, right in found.right.items()}
            tax = relative(pairs, -1, resamples, seed)
            metrics |= {} if tax is None else {"alignment_tax": tax}
