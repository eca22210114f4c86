"""What is kept on disk as it comes, so that nothing is generated, asked or paid for twice."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config.sections import ModelSection
from trainer.pipeline.context import StageContext
from trainer.pipeline.places import cache_directory
from trainer.pipeline.work import TICKET
from trainer.record import fingerprint_of, versions

Append = Callable[[Iterable[tuple[str, Any]]], None]

_NOT_ANSWERING = ("evaluation.", "judge.", "judges.")  # keys of what a contender's answers do not depend on
_LIBRARIES = ("torch", "transformers")  # whose versions may change what a model says


@dataclass(frozen=True)
class Kept:
    """Values by key, as rows of JSON: one file for every process that ever added some, so that none has to wait for another and
    a line that a kill cut short spoils no other."""

    directory: Path

    def read(self) -> dict[str, Any]:
        """Key -> value; a line cut short is passed over."""
        found: dict[str, Any] = {}
        for path in sorted(self.directory.glob("*.jsonl")):
            for line in path.read_text().splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                found[row["key"]] = row["value"]
        return found

    @contextmanager
    def appending(self) -> Iterator[Append]:
        """A function that adds rows; when it returns they are on the disk."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / f"{uuid.uuid4().hex}.jsonl").open("x") as file:

            def append(rows: Iterable[tuple[str, Any]]) -> None:
                file.write("".join(json.dumps({"key": key, "value": value}) + "\n" for key, value in rows))
                file.flush()
                os.fsync(file.fileno())

            yield append


def kept_of(context: StageContext, name: str, identity: dict[str, Any] | None) -> Kept:
    """Where what one model says is kept: for all runs where its content is known, or else for this stage alone.

    Args:
        name: of the model in this stage.
        identity: what determines its answers, apart from what it is asked; None is not known.
    """
    if identity is None:
        return Kept(context.stage_dir / "answers" / name)
    kept = Kept(cache_directory(context.config, context.run_dir) / "answers" / fingerprint_of(identity))
    if context.is_main:
        kept.directory.mkdir(parents=True, exist_ok=True)
        if not (said := kept.directory / "identity.json").exists():  # for people; other runs write the same
            said.write_text(json.dumps(identity, indent=1) + "\n")
    return kept


def inputs_of_stage(context: StageContext) -> dict[str, str]:
    """Key -> fingerprint of what the stage reads, as it was started with."""
    found: dict[str, str] = json.loads((context.stage_dir / TICKET).read_text())["inputs"]
    return found


def identity_of(context: StageContext, weights: str) -> dict[str, Any] | None:
    """What determines the answers of a contender's weights: the content of what they are made of, how, and how they are loaded.
    None where a name of the hub says no commit."""
    config, base = context.config, weights == "base"
    keys, settings = (("base", "model."), {}) if base else config.method.sources(weights)
    content = {
        key: value
        for key, value in inputs_of_stage(context).items()
        if key.startswith(keys) and not key.startswith(_NOT_ANSWERING)
    }
    if any(value == context.stage.reads.get(key) for key, value in content.items()):
        return None
    made = {} if base else {"weights": weights, "settings": settings}
    return {"content": content, **made, **how_loaded(config.model, trained=not base)}


def how_loaded(model: ModelSection, trained: bool) -> dict[str, Any]:
    """What besides its files determines what a model says. Library versions count: rounding differs from one to another."""
    return {
        "dtype": model.save_dtype or model.dtype if trained else model.dtype,
        "attn_implementation": model.attn_implementation,
        "quantization": model.quantization,
        "chat_template": model.chat_template,
        "chat_template_kwargs": model.chat_template_kwargs,
        "template_date": model.template_date,
        "libraries": {name: version for name, version in versions().items() if name in _LIBRARIES},
    }
