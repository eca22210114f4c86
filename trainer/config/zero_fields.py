"""What becomes of every key of DeepSpeed's JSON: passed through, derived from something else, or refused. A test holds these
tables against the installed version: a key that is new is refused until somebody has put it here."""

from __future__ import annotations

_NOT_CALLED = "nothing: transformers' Trainer does not use it"
_BATCHES = "nothing: this project loads the data"
_MONITORS = "the tracking group"
_GONE = "nothing: DeepSpeed has taken it out"
_ONE_MODEL = "nothing: models here are sharded by ZeRO alone"

# Key -> what it is derived from; `nothing: ...` says why it may not be set at all.
DERIVED = {
    "train_batch_size": "trainer.train_batch_size",
    "train_micro_batch_size_per_gpu": "trainer.per_device_train_batch_size",
    "gradient_accumulation_steps": "trainer.train_batch_size",
    "managed_gradient_accumulation": "trainer.train_batch_size",
    "gradient_clipping": "trainer.max_grad_norm",
    "optimizer": "trainer.optim",
    "scheduler": "trainer.lr_scheduler_type",
    "activation_checkpointing": "trainer.gradient_checkpointing",
    "checkpoint": "the run directory: a run resumes by itself",
    "zero_allow_untested_optimizer": "trainer.optim",
    "autotuning": _NOT_CALLED,
    "log_level": "trainer.log_level",
    "compile": _NOT_CALLED,
    "hybrid_engine": _NOT_CALLED,
    "pipeline": _NOT_CALLED,
    "timers": _NOT_CALLED,
    "disable_python_gc": _NOT_CALLED,
    "memory_breakdown": _NOT_CALLED,
    "datastates_ckpt": "the run directory: checkpoints are verified there",
    "vocabulary_size": _NOT_CALLED,
    **dict.fromkeys(("data_types.param_dtype", "data_types.buffer_dtype"), "model.dtype"),
    **dict.fromkeys(("bf16", "bfloat16", "fp16", "torch_autocast", "communication_data_type"), "model.dtype"),
    **dict.fromkeys(("data_efficiency", "dataloader_drop_last"), _BATCHES),
    **dict.fromkeys(("tensorboard", "wandb", "csv_monitor", "comet"), _MONITORS),
    **dict.fromkeys(
        (
            "disable_allgather", "gradient_allreduce_op", "gradient_predivide_factor", "weight_quantization",
            "tensor_parallel", "expert_parallel", "use_data_before_expert_parallelism", "seq_parallel_communication_data_type",
        ),
        _ONE_MODEL,
    ),
    **dict.fromkeys(
        (
            "amp", "compression_training", "curriculum_learning", "eigenvalue", "elasticity", "graph_harvesting", "nebula",
            "progressive_layer_drop", "quantize_training", "sparse_attention", "sparse_gradients",
        ),
        _GONE,
    ),
}  # fmt: skip

# Key that passes through -> the keys of its own section; None where it is a value, or DeepSpeed itself checks the section.
PASSED: dict[str, frozenset[str] | None] = {
    "zero_optimization": None,
    "comms_logger": None,
    "aio": frozenset(["block_size", "queue_depth", "intra_op_parallelism", "single_submit", "overlap_events", "use_gds"]),
    "data_types": frozenset(["grad_accum_dtype", "keep_in_fp32_modules"]),
    "flops_profiler": frozenset(
        ["enabled", "recompute_fwd_factor", "profile_step", "module_depth", "top_modules", "detailed", "output_file"]
    ),
    "dump_state": None,
    "prescale_gradients": None,
    "steps_per_print": None,
    "wall_clock_breakdown": None,
    "zero_force_ds_cpu_optimizer": None,
}

_OTHER_OPTIMISER = "trainer.optim: it replaces the optimiser"
_FORMAT = "this project, which converts checkpoints to DeepSpeed's universal format"
ZERO_DERIVED = {
    "cpu_offload": "offload_optimizer, its newer name",
    "cpu_offload_param": "offload_param, its newer name",
    "cpu_offload_use_pin_memory": "pin_memory in offload_optimizer and offload_param, its newer name",
    "stage3_gather_fp16_weights_on_model_save": "stage3_gather_16bit_weights_on_model_save, its newer name",
    "zenflow": _OTHER_OPTIMISER,
    "save_muon_momentum_buffer_in_memory": _OTHER_OPTIMISER,
    "elastic_checkpoint": _FORMAT,
    "pipeline_loading_checkpoint": _FORMAT,
    "load_from_fp32_weights": _FORMAT,
    "legacy_stage1": _GONE,
}
ZERO_PASSED = frozenset(
    [
        "stage",
        "contiguous_gradients",
        "reduce_scatter",
        "reduce_bucket_size",
        "use_multi_rank_bucket_allreduce",
        "allgather_partitions",
        "allgather_bucket_size",
        "overlap_comm",
        "compute_grad_norm",
        "offload_param",
        "offload_optimizer",
        "sub_group_size",
        "prefetch_bucket_size",
        "param_persistence_threshold",
        "model_persistence_threshold",
        "max_live_parameters",
        "max_reuse_distance",
        "gather_16bit_weights_on_model_save",
        "module_granularity_threshold",
        "use_all_reduce_for_fetch_params",
        "allgather_sequential",
        "ignore_unused_parameters",
        "round_robin_gradients",
        "parameter_alignment",
        "zero_hpz_partition_size",
        "zero_quantized_weights",
        "zero_quantized_nontrainable_weights",
        "zero_quantized_gradients",
        "memory_efficient_linear",
        "override_module_apply",
        "log_trace_cache_warnings",
        "enable_sanity_checks",
        "leaf_module",
    ]
)
