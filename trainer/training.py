"""What every training stage shares: the arguments, the callbacks, train, save."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PrinterCallback

from trainer.callbacks.metrics import MetricsCallback
from trainer.callbacks.progress import ProgressBarCallback
from trainer.callbacks.start_line import StartLineCallback
from trainer.callbacks.whole_checkpoints import WholeCheckpointsCallback, newest_whole_checkpoint
from trainer.config.trl_fields import accumulation_steps, config_class, stage_fields
from trainer.config.zero import deepspeed_json
from trainer.errors import ConfigError, DataError
from trainer.models.load import MODEL_DIR, load_model
from trainer.stages.context import StageContext
from trainer.tracking.tracker import Tracker


def training_arguments(context: StageContext) -> Any:
    """The stage's SFTConfig or DPOConfig: the user's fields, our derived ones, and few defaults of ours.

    Raises:
        ConfigError: the class itself refuses a value.
    """
    import torch

    config, stage = context.config, context.stage
    fields = {
        "logging_steps": 5,
        "save_strategy": "steps",
        "save_steps": 200,
        "save_total_limit": 2,
        "gradient_checkpointing": torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        **({"precompute_ref_log_probs": config.model.lora is None} if stage == "dpo" else {}),
        **stage_fields(config, stage),
        "bf16": config.model.dtype == "bfloat16",
        "gradient_accumulation_steps": accumulation_steps(config, stage, context.world_size),
        "deepspeed": deepspeed_json(config, stage, context.world_size),
        "output_dir": str(context.stage_dir / "checkpoints"),
        "seed": config.seed,
        "use_cpu": not torch.cuda.is_available(),
        "report_to": "none",
        "disable_tqdm": True,  # ProgressBarCallback draws ours
    }
    if context.config.deepspeed is None and context.world_size > 1:
        fields.setdefault("ddp_find_unused_parameters", False)
    try:
        return config_class(stage)(**fields)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{stage}: {error}") from error


def peft_config(context: StageContext) -> Any:
    """The LoRA configuration, or None for full fine-tuning."""
    lora = context.config.model.lora
    if lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )


def load_examples(path: Path) -> Any:
    """The stage's dataset, from disk: every rank maps the same file, and TRL caches beside it."""
    from datasets import load_from_disk

    try:
        dataset = load_from_disk(str(path))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the data stage's output cannot be read: {error}") from error
    return dataset


def train_and_save(context: StageContext, trainer: Any, tokenizer: Any, base_path: str) -> list[Path]:
    """Train from the newest whole checkpoint, if any, and save a model that plain transformers loads.

    Returns:
        The model's files, for the manifest (rank 0; empty elsewhere).
    """
    with Tracker.open(context) as tracker:
        trainer.remove_callback(PrinterCallback)
        if context.is_main:
            trainer.add_callback(ProgressBarCallback(context.stage))
        trainer.add_callback(StartLineCallback(context))
        trainer.add_callback(MetricsCallback(tracker))
        trainer.add_callback(WholeCheckpointsCallback(context.is_main))
        checkpoint = newest_whole_checkpoint(Path(trainer.args.output_dir))
        if checkpoint is not None and context.is_main:
            print(f"{context.stage}: resuming from {checkpoint}", flush=True)
        result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        outputs = _save(context, trainer, tokenizer, base_path)
        tracker.summary({f"train/{k.removeprefix('train_')}": v for k, v in result.metrics.items()})
    return outputs


def _save(context: StageContext, trainer: Any, tokenizer: Any, base_path: str) -> list[Path]:
    """All weights in one place: gathered from the ranks, a LoRA adapter merged into its base and kept beside it."""
    target = context.stage_dir / MODEL_DIR
    if context.config.model.lora is None:
        trainer.save_model(str(target))
    else:
        adapter = context.stage_dir / "adapter"
        trainer.save_model(str(adapter))
        if context.is_main:
            from peft import PeftModel
            from transformers.integrations.deepspeed import unset_hf_deepspeed_config

            unset_hf_deepspeed_config()  # under ZeRO-3 the base would load as shards
            merged = PeftModel.from_pretrained(load_model(context.config.model, base_path), str(adapter))
            merged.merge_and_unload().save_pretrained(target)
    if not context.is_main:
        return []
    tokenizer.save_pretrained(target)
    (target / "training_args.bin").unlink(missing_ok=True)  # a pickle: safetensors and JSON only
    return sorted(p for p in target.iterdir() if p.is_file())
