"""Whether the modules that a LoRA section names are in the model, as far as the model's config is on this machine."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.config.architecture import build, shape_fields
from trainer.config.lora import lora_config
from trainer.config.run import RunConfig
from trainer.errors import ConfigError

HEAD_IS_READ = (
    "the losses here read the weight of the head (lm_head, or the embeddings that are tied to it), and would pass its adapter "
    "over; leave it out, or train it as a whole with modules_to_save."
)


def head_is_adapted(model: Any) -> bool:
    """Whether PEFT has put an adapter onto the head of a language model; a copy that is trained as a whole is none."""
    from peft.utils import ModulesToSaveWrapper
    from torch import nn

    return not isinstance(model.get_output_embeddings(), (nn.Linear, ModulesToSaveWrapper))


def target_problems(config: RunConfig, base_dir: Path) -> list[str]:
    """Of every training stage with LoRA. Only for a config whose model and LoRA sections are sound each for itself."""
    given: dict[str, Mapping[str, Any]] = {
        "model.lora" if config.model.lora is not None else f"{one.stage}: lora": one.lora
        for one in config.training
        if one.lora is not None
    }
    if not given or config.model.trust_remote_code:  # the model's own code is read where it runs
        return []
    try:
        found = shape_fields(config.model, base_dir)
        return [] if found is None else [line for key, lora in given.items() for line in _problems(key, lora, *found)]
    except ConfigError as error:
        return error.problems


def _problems(key: str, lora: Mapping[str, Any], fields: Mapping[str, Any], source: str) -> list[str]:
    from peft import get_peft_model
    from torch import nn

    model = build(fields, source)
    modules = sorted({name.rpartition(".")[2] for name, one in model.named_modules() if isinstance(one, nn.Linear)})
    there = f"{source} has {', '.join(modules)}"
    saved = [name for name in lora.get("modules_to_save") or [] if not any(_ends(n, name) for n, _ in model.named_modules())]
    if saved:
        return [f"{key}.modules_to_save: there is no module {saved[0]}; {there}."]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns between the libraries' own versions
            adapted = get_peft_model(model, lora_config(lora), autocast_adapter_dtype=False)
    except (ValueError, TypeError, RuntimeError) as error:
        return [f"{key}: {str(error).splitlines()[0]} {there}."]
    if head_is_adapted(adapted):
        field = "trainable_token_indices" if lora.get("trainable_token_indices") else "target_modules"
        return [f"{key}.{field}: {HEAD_IS_READ}"]
    targets = adapted.targeted_module_names
    return [
        f"{key}.{pattern}.{name}: is no module with an adapter, so it would change nothing; {there}."
        for pattern in ("rank_pattern", "alpha_pattern")
        for name in lora.get(pattern) or {}
        if not any(re.match(rf"(.*\.)?({name})\Z", target) for target in targets)
    ]


def _ends(name: str, ending: str) -> bool:
    return name == ending or name.endswith(f".{ending}")
