"""What models answered, prompt by prompt: the ground of paired tests, and what a reader looks through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.compare.comparison import Prompt, Response, Row
from trainer.compare.rows import OTHER, Line
from trainer.vocabulary import MEASURES

MOST = 200_000  # responses to show; beyond it only those of the models that runs were for, and of their bases
_METRIC = {
    measure.suite: measure.name for measure in reversed(MEASURES) if measure.suite and measure.unit in ("share", "score")
}
_COUNTS = {"attack": "risks", "over_refusal": "refused", "capability": "correct", "task": "correct", "cosa": "score"}
Key = tuple[str, ...]  # of a prompt: suite, id, task or config, system prompt, prompt


@dataclass(frozen=True)
class Answers:
    """What one row's models answered: for every metric, group of prompts and prompt, one value per run."""

    values: Mapping[str, Mapping[str, Mapping[Key, list[float]]]]


def answers_of(lines: Sequence[Line], read: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Answers]:
    """Row -> its answers. read: run -> the lines of its responses.jsonl."""
    by_model = {
        (run, label): rows for run, found in read.items() for label, rows in _by(found, lambda row: row["model"]).items()
    }
    found = {}
    for line in lines:
        values: dict[str, dict[str, dict[Key, list[float]]]] = {}
        for run in line.runs:
            for row in by_model.get((run, line.row.label), ()):
                if row["valid"] and (value := _value(row)) is not None:
                    group = row["safety_config"] or row["split"] or row["suite"]
                    known = values.setdefault(_metric(row), {}).setdefault(group, {}).setdefault(_key(row), [])
                    if not (known and line.untrained):
                        known.append(value)
        found[line.row.key] = Answers(values)
    return found


def shown(lines: Sequence[Line], read: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[list[Prompt], list[Response]]:
    """Every prompt with what was answered."""
    rows_of: dict[tuple[str, str], Row] = {(run, line.row.label): line.row for line in lines for run in line.runs}
    everything = sum(map(len, read.values())) <= MOST
    places: dict[Key, int] = {}
    firsts: list[Mapping[str, Any]] = []
    outcomes: list[set[str]] = []
    responses = []
    for run, found in read.items():
        for line in found:
            row = rows_of.get((run, line["model"]))
            if row is None or (row.role == OTHER and not everything):
                continue
            place = places.setdefault(_key(line), len(places))
            if place == len(firsts):
                firsts.append(line)
                outcomes.append(set())
            outcome = _outcome(line)
            if row.role != OTHER:
                outcomes[place].add(outcome)
            responses.append(
                Response(
                    place, row.key, run, line["response"], outcome, line["risks"], line["rating"], line["refused"],
                    line["correct"], _replies(line),
                )
            )  # fmt: skip
    prompts = [
        Prompt(
            one["id"], one["suite"], one["split"], one["safety_config"], one["situation"], one["system"], one["prompt"],
            differs=len(outcomes[place]) > 1,
        )
        for place, one in enumerate(firsts)
    ]  # fmt: skip
    return prompts, responses


def _by(rows: Sequence[Mapping[str, Any]], key: Any) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


def _key(row: Mapping[str, Any]) -> Key:
    return tuple(str(row[name]) for name in ("suite", "id", "safety_config", "system", "prompt"))


def _metric(row: Mapping[str, Any]) -> str:
    """The metric that a response counts for."""
    name = _METRIC[row["suite"]]
    return f"{name}/{row['split']}" if row["suite"] == "cosa" else name


def _value(row: Mapping[str, Any]) -> float | None:
    value = row[_COUNTS[row["suite"]]]
    if value is None:  # this judge does not tell
        return None
    return float(bool(value)) if row["suite"] == "attack" else float(value)


def _replies(row: Mapping[str, Any]) -> dict[str, str]:
    """What every judge said, by question; of one besides the first under its name, and where it does not answer in words, what
    it makes of the response."""
    found = dict(row["judge"])
    for name, other in row.get("judges", {}).items():
        found |= {f"{name}: {question}": said for question, said in other["judge"].items()} or {
            name: _outcome({**row, **other})
        }
    return found


def _outcome(row: Mapping[str, Any]) -> str:
    """One word for a response: see `Response`."""
    if not row["valid"]:
        return "invalid"
    if row["correct"] is not None:
        return "right" if row["correct"] else "wrong"
    if row["keeps"] is False or (row["suite"] != "cosa" and row["risks"]):
        return "unsafe"
    if row["refused"]:
        return "refused"
    return "safe" if row["suite"] == "attack" else "answered"
