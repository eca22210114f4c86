"""The sections that every run has. Each field's default, unit and meaning stands here; YAML in `conf/` only overrides."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from trainer.config.section import section

Gpu = Literal["L40S-48GB", "A100-40GB", "A100-80GB", "H100-80GB", "H200-141GB", "B200-180GB"]


def _day(text: str) -> str:
    date.fromisoformat(text)
    return text


@section
class RunSection:
    """name: the run, and its directory under `paths.runs`.
    on_existing: what to do when that directory holds a run with another config: `refuse`; `resume` (keep the stages
    whose inputs did not change, redo the others); `overwrite` (delete it first).
    objective: the number of results.json that an optimising sweep is after, as `model/metric`, for instance
    sft_dpo/cosa_score/seen.
    """

    name: str = Field(min_length=1)
    objective: str | None = None
    on_existing: Literal["refuse", "resume", "overwrite"] = "refuse"


@section
class PathsSection:
    """runs: where run directories live (on a cluster: a file system that all nodes share).
    cache: what runs share: the answers of models, by their content; null is `.cache` in `runs`.
    mirror: a folder with copies of what the hub has, which is read before it: `trainer.fetch` fills it, and its
        index.yaml names copies of your own (docs/fetch.md).
    """

    runs: str = "runs"
    cache: str | None = None
    mirror: str | None = None


@section
class ModelSection:
    """The base model.

    path: a local directory or GGUF file, a hub name, a shipped base (`sandbox`, `sandbox_steerable`), or one that comes in
        packages (`smollm2_135m`, `gemma3_270m`). Not used with `random_init`.
    random_init: fields of a transformers config, `model_type` among them: start from fresh weights of that shape.
    tokenizer: a local directory or hub name; default: the one in `path`.
    revision: of the hub model in `path`: a branch, a tag or a commit; null is the newest.
    dtype: the dtype that weights are loaded and trained in.
    save_dtype: the dtype that trained weights are saved and evaluated in; null is `dtype`. bfloat16 loses small updates.
    lora: train a LoRA adapter instead of all weights: fields of `peft.LoraConfig` (see config/lora.py).
    quantization: load the base in 4 or 8 bits: fields of `transformers.BitsAndBytesConfig`; needs lora and a GPU.
    trust_remote_code: run Python code that comes with the model. Off unless you set it.
    chat_template: the text of a Jinja template, in place of the tokenizer's own; base models have none.
    chat_template_kwargs: variables for the chat template, such as enable_thinking: false for Qwen3.
    template_date: the day that a chat template is told when it asks for today's (Llama 3.1 and later), so that a run means the
        same tomorrow; the default is those models' own.
    shape: fields of a transformers config, `model_type` among them, as published with a hub model: for `plan`, where
        the model is not on this machine. Nothing else reads it. Where its `_name_or_path` is not `path`, it is not read.
    """

    path: str | None = None
    random_init: dict[str, Any] | None = None
    shape: dict[str, Any] | None = None
    tokenizer: str | None = None
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    save_dtype: Literal["float32", "bfloat16"] | None = None
    attn_implementation: str = "sdpa"
    revision: str | None = None
    lora: dict[str, Any] | None = None
    quantization: dict[str, Any] | None = None
    trust_remote_code: bool = False
    chat_template: str | None = None
    chat_template_kwargs: dict[str, bool | int | float | str] = Field(default_factory=dict)
    template_date: Annotated[str, AfterValidator(_day)] = "2024-07-26"


@section
class SurvivalSection:
    """What to do when training goes wrong. Checkpoints: trainer.save_steps and trainer.save_total_limit.

    bad_loss: a loss that is not finite, or explodes: `stop`, or `skip` that batch on every rank and go on. Either way
    the batch is written to `bad_batches/`. Gradients and weights that are not finite always stop.
    explosion: a loss counts as exploding this many times its own size above the highest running median so far; its size is that
    median, or 1 where that is less; null is never.
    hang_timeout: seconds without a step, or outside training without any sign of life, on any rank, after which the run ends
    and names the rank and where it stood.
    checkpoints_of: users besides you whose checkpoints a run may resume from: for those, nothing but torch's restricted
        unpickler stands between what they put there and your account.
    """

    bad_loss: Literal["stop", "skip"] = "stop"
    explosion: float | None = Field(5.0, gt=0)
    hang_timeout: float = Field(600.0, gt=0)
    checkpoints_of: list[str] = Field(default_factory=list)


@section
class GenerationSection:
    """Greedy decoding. max_new_tokens: a response is cut there. batch_size: prompts generated together on one rank."""

    max_new_tokens: int = Field(1024, gt=0)
    batch_size: int = Field(16, gt=0)


@section
class TrackingSection:
    """W&B. mode: `offline` writes what `python -m trainer.tracking.sync RUN_DIR` uploads later.
    group: what is compared with one another; default: the run's name, or for a run of a sweep the sweep's.
    tags: besides the method and the base model.
    sample_rows: responses shown in the W&B table."""

    mode: Literal["online", "offline", "disabled"] = "offline"
    project: str = "keel"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = Field(default_factory=list)
    sample_rows: int = Field(40, ge=0)
