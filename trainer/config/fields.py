"""What becomes of every field of `transformers.TrainingArguments`, which all training stages share: passed through with its own
meaning, set by something else, or refused. The fields that a trainer adds to them stand beside its section (`TrlSection`).

A test holds these tables against the installed versions: a field that is new is refused until somebody has put it here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

_ONLY_ITS_LOSS = "nothing: of rows that are held out the loss is measured, and what TRL measures with it"
_LAST_MODEL = "nothing: a stage leaves the model of its last step; the evaluation group compares models"
_NO_HUB = "nothing: models are saved in the run directory"
_SHARDED = "the deepspeed group, which is what shards models here"
_ONE_PLACE = "nothing: runs live on a file system that all nodes share"
_TRACKING = "the tracking group"
_COMPILED = "nothing: compiled models have not been tried under DeepSpeed's and this project's hooks"
_LIGER = "nothing: TRL takes it out in 2.0, and its kernels replace what the losses here read"
_OUR_DATA = "the trainer class, whose data the data stage writes"
TOKENIZER = "the tokenizer of model.tokenizer, with which the data stage has counted"

# Field -> what sets it instead; `nothing: ...` says why it may not be set at all.
SET_ELSEWHERE = {
    "output_dir": "run.name and paths.runs",
    "run_name": "run.name",
    "deepspeed": "the deepspeed group",
    "seed": "seed",
    "data_seed": "seed",
    "use_cpu": "whether the machine has a GPU",
    "model_init_kwargs": "the model group",
    "trust_remote_code": "model.trust_remote_code",
    "remove_unused_columns": "the trainer class",
    "label_names": "the trainer class",
    "length_column_name": _OUR_DATA,
    "use_cache": "this project: training needs no cache, and sampling has its own",
    "resume_from_checkpoint": "the run directory: a run resumes by itself",
    "save_only_model": "this project: a run resumes only from whole checkpoints",
    "enable_jit_checkpoint": "the launcher: a signal makes all ranks save the same step",
    "restore_callback_states_from_checkpoint": "nothing: the callbacks here keep no state in a checkpoint",
    "disable_tqdm": "this project, which draws its own progress bar",
    "log_on_each_node": "this project: rank 0 logs",
    "logging_nan_inf_filter": "survival.bad_loss",
    "debug": "survival.bad_loss",
    "do_train": "the method",
    "do_predict": "the method",
    "local_rank": "the launcher",
    "ddp_backend": "whether the machine has a GPU",
    "ddp_timeout": "survival.hang_timeout",
    "auto_find_batch_size": "nothing: the batch would be another than was planned, and than a checkpoint was written with",
    "accelerator_config": "this project: it decides batches and seeds, and they must not depend on the number of ranks",
    "optim_target_modules": "nothing: only GaLore and APOLLO read it, and these optimisers are not supported",
    "save_on_each_node": _ONE_PLACE,
    "activation_checkpointing": "gradient_checkpointing, which means the same",
    "activation_checkpointing_kwargs": "gradient_checkpointing_kwargs, which means the same",
    **dict.fromkeys(("torch_compile", "torch_compile_backend", "torch_compile_mode"), _COMPILED),
    **dict.fromkeys(("use_liger_kernel", "liger_kernel_config"), _LIGER),
    **dict.fromkeys(("fsdp", "fsdp_config", "parallelism_config"), _SHARDED),
    **dict.fromkeys(("report_to", "project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"), _TRACKING),
    "do_eval": "data.validation",
    **dict.fromkeys(("load_best_model_at_end", "metric_for_best_model", "greater_is_better"), _LAST_MODEL),
    **dict.fromkeys(
        (
            "prediction_loss_only", "eval_do_concat_batches", "eval_use_gather_object", "eval_accumulation_steps",
            "include_for_metrics", "batch_eval_metrics", "bf16_full_eval", "fp16_full_eval",
        ),
        _ONLY_ITS_LOSS,
    ),
    **dict.fromkeys(
        ("push_to_hub", "hub_private_repo", "hub_model_id", "hub_strategy", "hub_always_push", "hub_revision"), _NO_HUB
    ),
    "hub_token": "nothing: tokens do not belong in a config",
}  # fmt: skip

# Fields that cannot change what a training stage learns: another value neither redoes it nor makes another run of it.
WITHOUT_EFFECT = frozenset(
    [
        "logging_strategy",
        "logging_steps",
        "logging_first_step",
        "include_num_input_tokens_seen",
        "log_level",
        "log_level_replica",
        "skip_memory_metrics",
        "save_strategy",
        "save_steps",
        "save_total_limit",
        "torch_empty_cache_steps",
        "dataloader_num_workers",
        "dataloader_pin_memory",
        "dataloader_persistent_workers",
        "dataloader_prefetch_factor",
        "dataloader_multiprocessing_context",
        "dataset_num_proc",
    ]
)
# The same of DeepSpeed's JSON.
DEEPSPEED_WITHOUT_EFFECT = frozenset(
    [
        "steps_per_print",
        "wall_clock_breakdown",
        "dump_state",
        "flops_profiler",
        "comms_logger",
    ]
)

# Those that say when, and in which blocks, rows are measured that are held out.
VALIDATION = frozenset(["eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "per_device_eval_batch_size"])
PASSED = VALIDATION | frozenset(
    [
        "per_device_train_batch_size",
        "num_train_epochs",
        "max_steps",
        "gradient_accumulation_steps",
        "average_tokens_across_devices",
        "learning_rate",
        "lr_scheduler_type",
        "lr_scheduler_kwargs",
        "warmup_steps",
        "max_grad_norm",
        "weight_decay",
        "label_smoothing_factor",
        "optim",
        "optim_args",
        "adam_beta1",
        "adam_beta2",
        "adam_epsilon",
        "neftune_noise_alpha",
        "bf16",
        "fp16",
        "tf32",
        "torch_empty_cache_steps",
        "gradient_checkpointing",
        "gradient_checkpointing_kwargs",
        "logging_strategy",
        "logging_steps",
        "logging_first_step",
        "include_num_input_tokens_seen",
        "log_level",
        "log_level_replica",
        "save_strategy",
        "save_steps",
        "save_total_limit",
        "ignore_data_skip",
        "full_determinism",
        "skip_memory_metrics",
        "train_sampling_strategy",
        "dataloader_drop_last",
        "dataloader_num_workers",
        "dataloader_pin_memory",
        "dataloader_persistent_workers",
        "dataloader_prefetch_factor",
        "dataloader_multiprocessing_context",
        "dataloader_in_order",
        "ddp_find_unused_parameters",
        "ddp_bucket_cap_mb",
        "ddp_broadcast_buffers",
        "ddp_static_graph",
    ]
)

_OPTIMIZERS = [
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_torch_xla",
    "adamw_torch_npu_fused",
    "adamw_torch_4bit",
    "adamw_torch_8bit",
    "adamw_anyprecision",
    "adamw_bnb_8bit",
    "adamw_8bit",
    "paged_adamw_32bit",
    "paged_adamw_8bit",
    "stable_adamw",
    "grokadamw",
    "adafactor",
    "adagrad",
    "sgd",
    "rmsprop",
    "rmsprop_bnb",
    "rmsprop_bnb_8bit",
    "rmsprop_bnb_32bit",
    "ademamix",
    "ademamix_8bit",
    "paged_ademamix_32bit",
    "paged_ademamix_8bit",
    "lion_32bit",
    "lion_8bit",
    "paged_lion_32bit",
    "paged_lion_8bit",
]  # not GaLore, APOLLO, LOMO and the schedule-free ones: they update or save weights where no checkpoint sees it
_SCHEDULES = [
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "warmup_stable_decay",
]  # not greedy and reduce_lr_on_plateau: they follow an evaluation, which data may not have
_LEVELS = ("detail", "debug", "info", "warning", "error", "critical", "passive")
# Field -> its values, where the class takes more than what works here.
CHOICES: dict[str, Sequence[Any]] = {
    "optim": _OPTIMIZERS,
    "lr_scheduler_type": _SCHEDULES,
    "save_strategy": ("no", "steps", "epoch"),  # not best: a stage leaves its last model
    "eval_strategy": ("steps", "epoch"),  # not no: then nothing would be held out
    "train_sampling_strategy": ("random", "sequential"),  # the others read a column of token ids
    "include_num_input_tokens_seen": ("all", "non_padding", "no", True, False),
    "log_level": _LEVELS,
    "log_level_replica": _LEVELS,
}

_POSITIVE = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_NOT_NEGATIVE = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_BELOW_1 = Annotated[float, Field(ge=0, lt=1)]
_SHARE = Annotated[float, Field(ge=0, le=1)]
# Field -> its range, where a value outside it is an error only later, or none at all.
RANGES: dict[str, Any] = {
    **dict.fromkeys(("learning_rate", "weight_decay", "adam_epsilon", "max_grad_norm", "warmup_steps"), _NOT_NEGATIVE),
    **dict.fromkeys(("dataloader_num_workers", "neftune_noise_alpha", "router_aux_loss_coef", "eval_delay"), _NOT_NEGATIVE),
    **dict.fromkeys(("desirable_weight", "undesirable_weight"), _NOT_NEGATIVE),
    **dict.fromkeys(("num_train_epochs", "logging_steps", "save_steps", "eval_steps", "beta", "discopop_tau"), _POSITIVE),
    **dict.fromkeys(
        ("dataset_num_proc", "precompute_ref_batch_size", "ref_model_sync_steps", "per_device_eval_batch_size"), _POSITIVE
    ),
    **dict.fromkeys(("max_completion_length", "dataloader_prefetch_factor", "ddp_bucket_cap_mb"), _POSITIVE),
    **dict.fromkeys(("adam_beta1", "adam_beta2", "label_smoothing_factor"), _BELOW_1),
    **dict.fromkeys(("label_smoothing", "ref_model_mixup_alpha", "ld_alpha"), _SHARE),
}
