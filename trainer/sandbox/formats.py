"""Data that the sandbox makes, in the forms that training uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

from pydantic import Field

from trainer.config.section import section
from trainer.data.files import located
from trainer.data.formats.cosalign import from_cosalign
from trainer.data.formats.instructions import InstructionData
from trainer.data.formats.labels import LabelledData
from trainer.data.formats.pairs import PreferenceData
from trainer.data.formats.preference import from_preference
from trainer.data.labelled import Labelled
from trainer.data.preferences import Preferences
from trainer.sandbox.candidates import synthesise
from trainer.sandbox.guardrail import sandbox_labelled, sandbox_test_sets
from trainer.sandbox.instructions import mix_pairs, safety_pairs, sandbox_instructions
from trainer.sandbox.world import SANDBOX_TAXONOMY


@section
class SandboxPairs(PreferenceData):
    """Pairs under safety configs.

    prompts: how many to synthesise.
    pairs_per_config: at most this many pairs for a (prompt, config); null is all.
    """

    format: Literal["sandbox"]
    prompts: int = Field(1500, gt=0)
    pairs_per_config: int | None = Field(2, gt=0)

    makes_its_own: ClassVar[bool] = True

    def read(self, seed: int, on_prompt: Callable[[], object] = lambda: None) -> Preferences:
        rows = synthesise(self.prompts, self.pairs_per_config, seed, on_prompt)
        return from_cosalign(located(rows[: self.limit], "sandbox"), SANDBOX_TAXONOMY)


@section
class SandboxMix(PreferenceData):
    """Pairs without safety configs, half for safety and half for helpfulness. prompts: how many to synthesise."""

    format: Literal["sandbox_mix"]
    prompts: int = Field(1500, gt=0)

    makes_its_own: ClassVar[bool] = True

    def read(self, seed: int, on_prompt: Callable[[], object] = lambda: None) -> Preferences:
        return from_preference(located(mix_pairs(self.prompts, seed)[: self.limit], "sandbox"))


@section
class SandboxSafety(PreferenceData):
    """Pairs without safety configs, all for safety. prompts: how many to synthesise."""

    format: Literal["sandbox_safety"]
    prompts: int = Field(1500, gt=0)

    makes_its_own: ClassVar[bool] = True

    def read(self, seed: int, on_prompt: Callable[[], object] = lambda: None) -> Preferences:
        return from_preference(located(safety_pairs(self.prompts, seed)[: self.limit], "sandbox"))


@section
class SandboxInstructions(InstructionData):
    """Risky and harmless requests."""

    format: Literal["sandbox_instructions"]

    makes_its_own: ClassVar[bool] = True

    def read(self, seed: int) -> tuple[list[str], list[str], list[str] | None]:
        return (*sandbox_instructions(seed), None)


@section
class SandboxLabelled(LabelledData):
    """Prompts and responses with exact labels, and three test sets: seen, unseen, responses."""

    format: Literal["sandbox_labelled"]

    makes_its_own: ClassVar[bool] = True

    def read(self, seed: int) -> tuple[list[Labelled], dict[str, list[Labelled]]]:
        made = sandbox_labelled(self.train + self.validation, seed)
        return made, {name: rows[: self.limit] for name, rows in sandbox_test_sets().items()}
