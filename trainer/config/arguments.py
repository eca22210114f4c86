"""What the libraries themselves say of a stage's fields, asked before a process starts: values that contradict each other, and
packages that are missing."""

from __future__ import annotations

import warnings
from typing import Any

from trainer.config.run import RunConfig
from trainer.config.stage import Training
from trainer.config.training import config_class, stage_fields, validation_fields

_WITHOUT_A_PACKAGE = ("adamw_torch", "adamw_torch_fused", "adafactor", "adagrad", "sgd", "rmsprop")
_NOT_ADAM = ("adafactor", "adagrad", "sgd", "rmsprop", "rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit")
_OF_ADAM = ("adam_beta1", "adam_beta2", "adam_epsilon")
_WITHOUT_KWARGS = ("linear", "cosine", "constant", "constant_with_warmup", "polynomial", "cosine_with_restarts", "inverse_sqrt")
_OF_DDP = ("ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_static_graph")


def argument_problems(config: RunConfig, training: Training) -> list[str]:
    """Of fields that are sound each for itself."""
    section, fields = training.section, {**validation_fields(config, training), **stage_fields(config, training)}
    problems = []
    if config.deepspeed is not None:
        problems += [
            f"{section}.{name}: is DistributedDataParallel's, and DeepSpeed takes its place; remove it, or use deepspeed=none."
            for name in _OF_DDP
            if name in fields
        ]
    if fields.get("tf32") and config.launcher.wants_gpus() is False:
        problems.append(f"{section}.tf32: needs a GPU, and the launcher asks for none; remove it.")
    if fields.get("optim") in _NOT_ADAM:
        optim = fields["optim"]
        problems += [f"{section}.{name}: {optim} does not read it; remove it." for name in _OF_ADAM if name in fields]
    return problems or _refused(training, fields)


def _refused(training: Training, fields: dict[str, Any]) -> list[str]:
    try:
        arguments = _made(config_class(training.section), fields)
    except (ValueError, TypeError, KeyError) as error:
        return [f"{training.section}: {error}"]
    problems = []
    for name, ask in (("optim", _ask_optimizer), ("lr_scheduler_type", _ask_schedule), ("dataloader_num_workers", _ask_loader)):
        try:
            ask(arguments)
        except (ValueError, TypeError, ImportError, AttributeError, RuntimeError) as error:
            problems.append(f"{training.section}.{name}: {error}")
    return problems


def _made(cls: type, fields: dict[str, Any]) -> Any:
    """The library's object, made as if there were no GPU: one that the ranks will have need not be here."""
    import torch

    arguments: Any = object.__new__(cls)
    vars(arguments)["_setup_devices"] = torch.device("cpu")  # a cached property: looking for devices would set up this process
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the ranks, which use them, say so
        arguments.__init__(**{**fields, "output_dir": "unused", "bf16": False, "tf32": None, "use_cpu": True})
    return arguments


def _ask_optimizer(arguments: Any) -> None:
    if arguments.optim in _WITHOUT_A_PACKAGE and not arguments.optim_args:
        return
    import torch
    from transformers import Trainer  # takes a second

    optimizer, options = Trainer.get_optimizer_cls_and_kwargs(arguments)
    given = [part.partition("=")[0].strip() for part in (arguments.optim_args or "").split(",") if part]
    if unread := [name for name in given if name not in options]:
        raise ValueError(f"does not read {', '.join(unread)} of optim_args; remove that")
    if arguments.optim in _WITHOUT_A_PACKAGE:
        optimizer([torch.nn.Parameter(torch.zeros(1))], **options)


def _ask_schedule(arguments: Any) -> None:
    if arguments.lr_scheduler_type in _WITHOUT_KWARGS and not arguments.lr_scheduler_kwargs:
        return
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=arguments.learning_rate)
    get_scheduler(
        arguments.lr_scheduler_type,
        optimizer,
        num_warmup_steps=arguments.get_warmup_steps(100),
        num_training_steps=100,
        scheduler_specific_kwargs=arguments.lr_scheduler_kwargs,
    )


def _ask_loader(arguments: Any) -> None:
    from torch.utils.data import DataLoader

    rows: Any = [0]
    DataLoader(
        rows,
        num_workers=arguments.dataloader_num_workers,
        prefetch_factor=arguments.dataloader_prefetch_factor,
        persistent_workers=arguments.dataloader_persistent_workers,
        multiprocessing_context=arguments.dataloader_multiprocessing_context or None,
    )
