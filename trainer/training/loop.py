"""What every training stage shares: the arguments, the callbacks, train, save."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PrinterCallback, TrainerCallback

from trainer.checkpoints.start import Start, read_start
from trainer.checkpoints.universal import separate_step_counts
from trainer.checkpoints.unpickling import restricted
from trainer.config.lora import lora_config
from trainer.config.targets import HEAD_IS_READ, head_is_adapted
from trainer.config.training import (
    SAVE_STEPS,
    accumulation_steps,
    checkpoints_kept,
    config_class,
    stage_fields,
    validation_fields,
    weights_dtype,
)
from trainer.config.zero import deepspeed_json
from trainer.errors import ConfigError, Interrupted
from trainer.models.load import load_model
from trainer.pipeline.context import StageContext
from trainer.stopping import stop_request
from trainer.tracking.tracker import Tracker
from trainer.training.callbacks.metrics import MetricsCallback
from trainer.training.callbacks.progress import ProgressBarCallback
from trainer.training.callbacks.saving import CheckpointsCallback, writing_directory
from trainer.training.callbacks.signs_of_life import SignsOfLifeCallback
from trainer.training.callbacks.start_line import StartLineCallback
from trainer.training.callbacks.stop_together import StopTogetherCallback
from trainer.training.examples import vouch_for_examples
from trainer.training.loss_guard import LossGuard
from trainer.training.ruin import RuinCallback
from trainer.training.save import save_trained
from trainer.training.validation import Validation


def training_arguments(context: StageContext, **defaults: Any) -> Any:
    """The stage's SFTConfig, DPOConfig or the like: the user's fields, our derived ones, and few defaults of ours.

    Args:
        defaults: of the stage.

    Raises:
        ConfigError: the class itself refuses a value.
    """
    config, training = context.config, context.training
    start = read_start(context.stage_dir)
    fields = {
        "logging_steps": 5,
        "save_strategy": "steps",
        "save_steps": SAVE_STEPS,
        "gradient_checkpointing": torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        **defaults,
        **validation_fields(config, training),
        **stage_fields(config, training),
        "save_total_limit": None,  # CheckpointsCallback keeps the newest
        "bf16": config.model.dtype == "bfloat16",
        "gradient_accumulation_steps": accumulation_steps(config, training, context.world_size),
        "deepspeed": deepspeed_json(config, training, context.world_size, load_universal=start.universal),
        "output_dir": str(writing_directory(context, start.attempt)),
        "seed": config.seed,
        "use_cpu": not torch.cuda.is_available(),
        "report_to": "none",
        "disable_tqdm": True,  # ProgressBarCallback draws ours
    }
    if start.checkpoint is not None and "eval_on_start" in fields:
        fields["eval_on_start"] = False  # of the training, not of every process that goes on with it
    if context.config.deepspeed is None:
        fields.setdefault("ddp_find_unused_parameters", False)
    try:
        return config_class(training.section)(**fields)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{training.stage}: {error}") from error


def load_trained(context: StageContext, path: str) -> Any:
    """The model that a stage trains, in the dtype that its updates need."""
    config = context.config
    dtype = weights_dtype(config, context.training)
    return load_model(config.model, path, dtype, config.launcher.scratch_directory)


def peft_config(context: StageContext) -> Any:
    """The LoRA configuration, or None for full fine-tuning."""
    lora = context.training.lora
    return None if lora is None else lora_config(lora)


def train_and_save(context: StageContext, trainer: Any, tokenizer: Any, base_path: str) -> list[Path]:
    """Train, and save a model that transformers loads. Arguments, returns and raises: see `train`."""
    return train(context, trainer, tokenizer, lambda: save_trained(context, trainer, tokenizer, base_path))


def train(context: StageContext, trainer: Any, tokenizer: Any, save: Callable[[], list[Path]]) -> list[Path]:
    """Train, from the checkpoint that this start resumes from if there is one, and save.

    Args:
        save: writes the result and returns its files; called on every rank.

    Returns:
        The files, for the manifest (rank 0; empty elsewhere).

    Raises:
        Interrupted: a signal asked to stop; all ranks saved the same step.
        BadLoss, DiskFull: see `SurvivalSection` and `CheckpointsCallback`.
        ConfigError: LoRA is on the head.
    """
    if isinstance(trainer.model, PeftModel) and head_is_adapted(trainer.model):  # of a model whose config was not here before
        raise ConfigError(f"{context.training.stage}: lora: {HEAD_IS_READ}")
    start = read_start(context.stage_dir)
    vouch_for_examples(context)
    stop = StopTogetherCallback()
    with Tracker.open(context) as tracker:
        guard = LossGuard(context, context.config.survival, tokenizer)
        guard.attach(trainer)
        bar = ProgressBarCallback(context.stage.name)
        _add_callbacks(context, trainer, tracker, stop, start, guard, bar)
        restricting = restricted(deepspeed=context.config.deepspeed is not None)
        with stop_request.deferred(), restricting, closing(bar):
            metrics = _train(trainer, start)
        if stop.stopped_at is None:
            outputs = save()
            tracker.summary({f"train/{k.removeprefix('train_')}": v for k, v in metrics.items()})
        else:
            tracker.close("preempted")
    if stop.stopped_at is not None:
        context.barrier()  # a rank that leaves early would have the others killed while they close their files
        raise Interrupted(
            f"stage {context.stage.name}: stopped by {stop_request.signal or 'a signal'} after step {stop.stopped_at}, "
            "which is saved; the same command continues from there."
        )
    return outputs


def _train(trainer: Any, start: Start) -> dict[str, float]:
    """Train; returns Trainer's closing metrics, none where the checkpoint is that of the last step already."""
    try:
        metrics: dict[str, float] = trainer.train(resume_from_checkpoint=start.checkpoint).metrics
    except _NothingLeft:
        return {}
    return metrics


class _NothingLeft(Exception):
    """The checkpoint that was just loaded is that of the last step."""


class _StopWhereNothingIsLeft(TrainerCallback):
    """Trainer would take one step more."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            raise _NothingLeft


def _add_callbacks(
    context: StageContext, trainer: Any, tracker: Tracker, stop: StopTogetherCallback, start: Start, guard: LossGuard,
    bar: ProgressBarCallback,
) -> None:  # fmt: skip
    keep = checkpoints_kept(context.config, context.training)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(MetricsCallback(tracker, context.meter, context.world_size))
    if context.training.validation:
        trainer.add_callback(Validation(context, trainer))
    trainer.add_callback(_StopWhereNothingIsLeft())  # before those that prepare for steps
    if context.is_main:
        trainer.add_callback(bar)
    trainer.add_callback(StartLineCallback(context))
    trainer.add_callback(stop)  # before the checkpoints: it asks for one
    trainer.add_callback(RuinCallback(context, trainer, guard))  # before the checkpoints, too: a ruined model is no checkpoint
    trainer.add_callback(CheckpointsCallback(context, start.attempt, keep))
    if start.universal:
        trainer.add_callback(_SeparateStepCounts())
    trainer.add_callback(SignsOfLifeCallback())


class _SeparateStepCounts(TrainerCallback):
    def on_train_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        separate_step_counts(optimizer)
