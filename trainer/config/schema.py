"""What a run is. Each field's default, unit and meaning stands here; YAML in `conf/` only overrides.

Three sections are other libraries' vocabularies and pass through under their own names: `trainer`, `sft` and `dpo`
hold fields of `transformers.TrainingArguments`, `trl.SFTConfig` and `trl.DPOConfig`; `deepspeed` is DeepSpeed's own
JSON. `trl_fields.py` and `zero.py` say what may be in them.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

_section = dataclass(frozen=True, config=ConfigDict(extra="forbid"))

MethodName = Literal["cosalign", "sft", "dpo"]


@_section
class RunSection:
    """name: the run, and its directory under `paths.runs`.
    on_existing: what to do when that directory holds a run with another config: `refuse`; `resume` (keep the stages
    whose inputs did not change, redo the others); `overwrite` (delete it first).
    """

    name: str = Field(min_length=1)
    on_existing: Literal["refuse", "resume", "overwrite"] = "refuse"


@_section
class PathsSection:
    """runs: where run directories live (on a cluster: a file system that all nodes share)."""

    runs: str = "runs"


@_section
class MethodSection:
    """name: which chain of stages the run is."""

    name: MethodName


@_section
class LoraSection:
    """PEFT's names: rank, scale, dropout, and which modules get an adapter."""

    r: int = Field(32, gt=0)
    lora_alpha: int = Field(16, gt=0)
    lora_dropout: float = Field(0.05, ge=0, lt=1)
    target_modules: str | list[str] = "all-linear"


@_section
class ModelSection:
    """The base model.

    path: a local directory, a hub name, or `sandbox` for the shipped base. Not used with `random_init`.
    random_init: fields of a transformers config, `model_type` among them: start from fresh weights of that shape.
    tokenizer: a local directory or hub name; default: the one in `path`.
    dtype: the dtype that weights are loaded and trained in.
    lora: train a LoRA adapter instead of all weights.
    trust_remote_code: run Python code that comes with the model. Off unless you set it.
    """

    path: str | None = None
    random_init: dict[str, Any] | None = None
    tokenizer: str | None = None
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    attn_implementation: str = "sdpa"
    lora: LoraSection | None = None
    trust_remote_code: bool = False


@_section
class DataSection:
    """Where preference pairs come from.

    format: `sandbox` synthesises them; `cosalign` is the published CoSAlign schema; `transcripts` is Anthropic-HH
    style (`chosen` and `rejected` transcripts with Human:/Assistant: turns); `preference` has `prompt`, `chosen`,
    `rejected` as text or chat messages.
    path: a local file (jsonl, json, csv, parquet, also .gz) or directory, or a hub dataset name.
    split: which split of a hub dataset.
    limit: use only the first rows; null is all.
    max_prompt_length: the longest prompt to train on, in tokens; null is all that `max_length` leaves room for.
    overlong: what to do with a row whose prompt is longer.
    prompts: sandbox only: how many prompts to synthesise.
    pairs_per_config: sandbox only: at most this many pairs for a (prompt, config); null is all.
    """

    format: Literal["sandbox", "cosalign", "transcripts", "preference"]
    path: str | None = None
    split: str = "train"
    limit: int | None = Field(None, gt=0)
    max_prompt_length: int | None = Field(None, gt=0)
    overlong: Literal["error", "drop"] = "error"
    prompts: int = Field(1500, gt=0)
    pairs_per_config: int | None = Field(2, gt=0)


@_section
class LauncherSection:
    """How processes get started.

    processes: how many on this machine; one a GPU, or any number on CPU.
    grace: seconds between asking the other ranks to stop and killing them, when one has failed.
    """

    name: Literal["local"] = "local"
    processes: int = Field(1, gt=0)
    grace: float = Field(5.0, ge=0)


@_section
class GenerationSection:
    """Greedy decoding. max_new_tokens: a response is cut there. batch_size: prompts generated together on one rank."""

    max_new_tokens: int = Field(1024, gt=0)
    batch_size: int = Field(16, gt=0)


@_section
class JudgeSection:
    """Who judges responses. `exact` reads the sandbox's language. `model` asks a chat model at `path`, which answers in
    words; replies that cannot be parsed are counted as invalid."""

    name: Literal["exact", "model"] = "exact"
    path: str | None = None
    batch_size: int = Field(16, gt=0)


@_section
class EvaluationSection:
    """benchmark: `sandbox`, or `cosalign_test` with its file or directory at `path`.
    models: which labels to compare; those whose stage is not in the chain are left out of the default.
    prompts_per_config, capability_prompts, over_refusal_prompts: sandbox sizes; the first also limits cosalign_test.
    resamples: of the bootstrap intervals.
    """

    benchmark: Literal["sandbox", "cosalign_test"] = "sandbox"
    path: str | None = None
    models: list[Literal["base", "ica", "ica_5shot", "sft", "sft_dpo"]] | None = None
    prompts_per_config: int | None = Field(120, gt=0)
    capability_prompts: int = Field(420, gt=0)
    over_refusal_prompts: int = Field(200, gt=0)
    resamples: int = Field(2000, gt=0)


@_section
class TrackingSection:
    """W&B. mode: `offline` writes what `wandb sync` uploads later. sample_rows: responses shown in the W&B table."""

    mode: Literal["online", "offline", "disabled"] = "offline"
    project: str = "keel"
    entity: str | None = None
    tags: list[str] = Field(default_factory=list)
    sample_rows: int = Field(40, ge=0)


@_section
class RunConfig:
    """Everything a run is made of. Written to `config.yaml` in the run directory; every rank reads that file.

    trainer: TRL/Transformers fields for every training stage; sft, dpo: fields for that stage alone.
    deepspeed: DeepSpeed's JSON, less what is derived from the trainer fields; null trains without DeepSpeed.
    """

    run: RunSection
    method: MethodSection
    model: ModelSection
    data: DataSection
    seed: int = Field(0, ge=0)
    paths: PathsSection = Field(default_factory=PathsSection)
    trainer: dict[str, Any] = Field(default_factory=dict)
    sft: dict[str, Any] = Field(default_factory=dict)
    dpo: dict[str, Any] = Field(default_factory=dict)
    deepspeed: dict[str, Any] | None = None
    launcher: LauncherSection = Field(default_factory=LauncherSection)
    generation: GenerationSection = Field(default_factory=GenerationSection)
    judge: JudgeSection = Field(default_factory=JudgeSection)
    evaluation: EvaluationSection | None = Field(default_factory=EvaluationSection)
    tracking: TrackingSection = Field(default_factory=TrackingSection)
