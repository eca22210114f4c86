"""What a run is. Each field's default, unit and meaning stands here; YAML in `conf/` only overrides.

Three sections are other libraries' vocabularies and pass through under their own names: `trainer`, `sft` and `dpo`
hold fields of `transformers.TrainingArguments`, `trl.SFTConfig` and `trl.DPOConfig`; `deepspeed` is DeepSpeed's own
JSON. `trl_fields.py` and `zero.py` say what may be in them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

_section = dataclass(frozen=True, config=ConfigDict(extra="forbid"))

MethodName = Literal["cosalign", "sft", "dpo"]
Gpu = Literal["L40S-48GB", "A100-40GB", "A100-80GB", "H100-80GB", "H200-141GB", "B200-180GB"]


@_section
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
    shape: fields of a transformers config, `model_type` among them, as published with a hub model: for `plan`, where
        the model is not on this machine. Nothing else reads it.
    """

    path: str | None = None
    random_init: dict[str, Any] | None = None
    shape: dict[str, Any] | None = None
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
class LocalLauncher:
    """Processes on this machine.

    processes: how many; one a GPU, or any number on CPU.
    gpu: which GPU a process has, for `plan` to compare with; null where there is none, or it does not matter.
    grace: seconds between asking the other ranks to stop and killing them, when one has failed.
    """

    name: Literal["local"] = "local"
    processes: int = Field(1, gt=0)
    gpu: Gpu | None = None
    grace: float = Field(5.0, ge=0)

    def world_size(self, stage: str) -> int:
        """Ranks of a distributed stage."""
        return self.processes


@_section
class StageSize:
    """A stage that is a Slurm job of its own size; null takes the launcher's value."""

    nodes: int | None = Field(None, gt=0)
    gpus_per_node: int | None = Field(None, ge=0)
    processes_per_node: int | None = Field(None, gt=0)
    time: str | None = None


@_section
class SlurmLauncher:
    """Nodes of a Slurm cluster. What is true of a cluster rather than of a run (partition, account, modules, network,
    scratch) belongs in a file of its own in `conf/launcher/`.

    nodes, gpus_per_node: what to ask for; `gpus_per_node=0` is a CPU job.
    gpu: which GPU the nodes have, for `plan` to compare with. It asks Slurm for nothing: that is `constraint`.
    processes_per_node: ranks on a node; null is one a GPU (one where there is none).
    task: what a Slurm task is: a `rank`, or a `node` whose one task starts the node's ranks.
    cpus_per_task, mem, time, partition, account, qos, constraint, reservation: sbatch's options of that name.
    sbatch: further sbatch options, each as on its command line: ["--exclusive", "--mail-type=FAIL"].
    signal, signal_lead: which signal Slurm sends every task before the time limit, and how many seconds before.
    max_requeues: how often a job that was stopped by that signal may go back into the queue.
    modules: environment modules to load. setup: shell lines to run before anything else, on the batch node.
    environment: variables for every task.
    container, container_mounts: an image for `srun --container-image`, and its mounts.
    network_interface: for NCCL and Gloo, such as ib0.
    scratch: a node-local directory, `$VARIABLES` in it expanded on the node; model and data are copied there first.
    python: the interpreter on the nodes; null is the one that submits.
    offline: tell the Hugging Face libraries that there is no network on the nodes (W&B: `tracking.mode`).
    per_stage: one job a stage, each waiting for the one before it (afterok). stages: sizes of such jobs, by stage.
    array_throttle: how many jobs of a sweep may run at a time; null is all.
    grace: seconds between asking ranks to stop and killing them.
    """

    name: Literal["slurm"]
    nodes: int = Field(1, gt=0)
    gpus_per_node: int = Field(8, ge=0)
    gpu: Gpu | None = None
    processes_per_node: int | None = Field(None, gt=0)
    task: Literal["rank", "node"] = "rank"
    cpus_per_task: int | None = Field(None, gt=0)
    mem: str | None = Field(None, coerce_numbers_to_str=True)
    time: str = "24:00:00"
    partition: str | None = None
    account: str | None = Field(None, coerce_numbers_to_str=True)
    qos: str | None = None
    constraint: str | None = None
    reservation: str | None = None
    sbatch: list[str] = Field(default_factory=list)
    signal: Literal["USR2", "TERM"] = "USR2"
    signal_lead: int = Field(300, gt=0)
    max_requeues: int = Field(10, ge=0)
    modules: list[str] = Field(default_factory=list)
    setup: list[str] = Field(default_factory=list)
    environment: dict[str, str] = Field(default_factory=dict)
    container: str | None = None
    container_mounts: list[str] = Field(default_factory=list)
    network_interface: str | None = None
    scratch: str | None = None
    python: str | None = None
    offline: bool = True
    per_stage: bool = False
    stages: dict[str, StageSize] = Field(default_factory=dict)
    array_throttle: int | None = Field(None, gt=0)
    grace: float = Field(30.0, ge=0)

    def size(self, stage: str) -> tuple[int, int]:
        """(nodes, ranks on each) of a distributed stage."""
        own = self.stages.get(stage, StageSize()) if self.per_stage else StageSize()
        gpus = self.gpus_per_node if own.gpus_per_node is None else own.gpus_per_node
        return own.nodes or self.nodes, own.processes_per_node or self.processes_per_node or gpus or 1

    def world_size(self, stage: str) -> int:
        """Ranks of a distributed stage."""
        nodes, ranks = self.size(stage)
        return nodes * ranks


LAUNCHERS: dict[str, type] = {"local": LocalLauncher, "slurm": SlurmLauncher}


@_section
class SurvivalSection:
    """What to do when training goes wrong. Checkpoints: trainer.save_steps and trainer.save_total_limit.

    bad_loss: a loss that is not finite, or explodes: `stop`, or `skip` that batch on every rank and go on. Either way
    the batch is written to `bad_batches/`.
    explosion: a loss counts as exploding this many nats above the highest running median so far; null is never.
    hang_timeout: seconds without a step, on any rank, after which the run ends and names the rank and where it stood.
    """

    bad_loss: Literal["stop", "skip"] = "stop"
    explosion: float | None = Field(5.0, gt=0)
    hang_timeout: float = Field(600.0, gt=0)


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
    """W&B. mode: `offline` writes what `python -m trainer.tracking.sync RUN_DIR` uploads later.
    sample_rows: responses shown in the W&B table."""

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
    launcher: Annotated[LocalLauncher | SlurmLauncher, Field(discriminator="name")] = Field(default_factory=LocalLauncher)
    survival: SurvivalSection = Field(default_factory=SurvivalSection)
    generation: GenerationSection = Field(default_factory=GenerationSection)
    judge: JudgeSection = Field(default_factory=JudgeSection)
    evaluation: EvaluationSection | None = Field(default_factory=EvaluationSection)
    tracking: TrackingSection = Field(default_factory=TrackingSection)
