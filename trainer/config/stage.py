"""What a stage says of itself: values that a method's section makes from the config, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any


@dataclass(frozen=True)
class TrlSection:
    """A section of the config whose keys are the fields of a library's class.

    Attributes:
        fields_of: the class, as `package:Class`.
        derived: field -> what sets it instead, so that it may not be set here. A name that ends in `*` stands for all that
            begin so.
        passed: the fields that pass through, besides those of `config/fields.py`.
        choices: field -> its values, where the class takes any text and the trainer fails on what it does not know.
    """

    fields_of: str
    derived: Mapping[str, str] = field(default_factory=dict)
    passed: frozenset[str] = frozenset()
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def sets(self, name: str) -> str | None:
        """What sets a field instead of the user; None where nothing does."""
        patterns = (pattern for pattern in self.derived if fnmatchcase(name, pattern))
        return next((self.derived[pattern] for pattern in patterns), None)


@dataclass(frozen=True)
class Training:
    """A stage that trains.

    Attributes:
        stage: its name.
        section: the section of the config that its fields stand in, beside `trainer`: sft, dpo, ...
        variant: which of several that the method trains alike: the name of a guardrail, a baseline, an ablation; "" is the
            method's own.
        base: the stage whose model it starts from; None is the base model of the run.
        fields: what this variant sets otherwise than its section does.
        lora: fields of peft.LoraConfig; None trains what the stage's work says, usually all weights.
        validation: part of the data -> its share of an epoch, where rows are held out to watch the training by.
    """

    stage: str
    section: str
    variant: str = ""
    base: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    lora: Mapping[str, Any] | None = None
    validation: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One link of the chain.

    Attributes:
        name: also the stage's directory in the run directory.
        work: what does it on every rank, as `package.module:function`; it takes the context and returns the files to vouch for
            (on rank 0).
        after: the stages whose artifacts it reads.
        settings: the part of the config it depends on; a change elsewhere does not redo it.
        reads: config key -> path of what it reads from outside the run; its content counts.
        distributed: whether it runs on all processes or on one.
        training: how it trains, if it does: then it leaves checkpoints and resumes from them.
        compared: whether an evaluation may compare what it leaves.
    """

    name: str
    work: str
    after: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    reads: dict[str, str] = field(default_factory=dict)
    distributed: bool = True
    training: Training | None = None
    compared: bool = True

    @property
    def trains(self) -> bool:
        return self.training is not None


@dataclass(frozen=True)
class Rollout:
    """What a stage does besides that learns from a teacher on its own samples.

    Attributes:
        completion: tokens of a sequence that are sampled; the loss scores no others.
        samples: sequences that a rank samples in one batch: those of a whole optimiser step.
        tiles: tiles of logits that the loss holds at a time, of `tile_tokens` x `tile_words` at most.
        gathers: stage 3 gathers the whole weights to sample with them.
    """

    completion: int
    samples: int
    tiles: int
    tile_tokens: int
    tile_words: int
    gathers: bool


@dataclass(frozen=True)
class Footprint:
    """What the memory and the time of a training stage depend on, besides the model and the trainer's fields.

    Attributes:
        sequences: in one example: a preference pair has two.
        length: tokens of a sequence, at most; None is `max_length`.
        second_model: a reference model, or a teacher, stands beside the trained one.
        forwards: forward passes without a gradient over every sequence, in every step: of a reference, of a teacher, or for a
            term of the loss.
        rollout: None where a stage trains on given responses.
    """

    sequences: int = 1
    length: int | None = None
    second_model: bool = False
    forwards: int = 0
    rollout: Rollout | None = None
