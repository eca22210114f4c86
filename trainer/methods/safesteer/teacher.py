"""The safety teacher: the base, steered by its refusal direction (arXiv 2606.02530), or under a system prompt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainer.config.run import RunConfig
from trainer.items import Message
from trainer.methods.safesteer.direction import Direction
from trainer.methods.safesteer.section import SafeSteerMethod
from trainer.models.blocks import steered
from trainer.models.fingerprint import base_fingerprint
from trainer.pipeline.context import StageContext


@dataclass(frozen=True)
class Teacher:
    """Attributes: `vector` (H,) is added to the input of block `layer`; `system_prompt` stands before every prompt. One of
    the two is set."""

    vector: torch.Tensor | None = None
    layer: int | None = None
    system_prompt: str | None = None

    @classmethod
    def of_run(cls, config: RunConfig, run_dir: Path, fingerprint: str) -> Teacher:
        """The teacher that a run's config and its stage `direction` make.

        Raises:
            ArtifactError: the direction is damaged, or of another base.
        """
        assert isinstance(config.method, SafeSteerMethod)
        if config.method.system_prompt is not None:
            return cls(system_prompt=config.method.system_prompt)
        direction = Direction.load(run_dir / "direction", fingerprint)
        return cls(direction.vector, direction.layer)

    def chat(self, prompt: str) -> list[Message]:
        """What the teacher is asked where the student is asked `prompt`."""
        user = {"role": "user", "content": prompt}
        return [user] if self.system_prompt is None else [{"role": "system", "content": self.system_prompt}, user]

    def applied(self, model: Any) -> AbstractContextManager[Any]:
        """Within this context the base is the teacher."""
        if self.vector is None or self.layer is None:
            return nullcontext()
        return steered(model, self.layer, self.vector)


@contextmanager
def steered_base(_weights: str, context: StageContext, base: Any, base_path: str, _tokenizer: Any) -> Iterator[Any]:
    """The base as the teacher, for an evaluation."""
    with Teacher.of_run(context.config, context.run_dir, base_fingerprint(base_path)).applied(base):
        yield base
