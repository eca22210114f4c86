"""What a training stage leaves: a model that plain transformers loads, and is the one that was trained.

A float32 weight that is saved in bfloat16 goes to the nearest point of a coarser grid, and an update below half a step of that
grid is gone. How much is lost is measured and printed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from trainer.config.sections import ModelSection
from trainer.models.load import load_model
from trainer.models.save import make_tokenizer_readable, save_model
from trainer.models.shards import is_sharded, whole
from trainer.pipeline.context import StageContext
from trainer.pipeline.places import MODEL_DIR

_SMALL = 0.5  # a smaller share of the update that survives is worth a warning


@dataclass
class Survival:
    """What is left of an update after rounding. Attributes: sums of absolute values over all weights, and counts of weights.

    A weight keeps of its update what training has moved its rounded value in the same direction, at most all of it.
    """

    updated: float = 0.0
    kept: float = 0.0
    changed: int = 0
    moved: int = 0

    def add(self, before: Tensor, exact: Tensor, saved: Tensor) -> None:
        """All of one shape; `before` and `exact` are float32."""
        update, left = exact - before, saved.float() - before.to(saved.dtype).float()
        same = torch.where(left.sign() == update.sign(), left.abs(), 0.0)
        self.updated += update.abs().sum(dtype=torch.float64).item()
        self.kept += torch.minimum(same, update.abs()).sum(dtype=torch.float64).item()
        self.changed += int((update != 0).sum())
        self.moved += int(((update != 0) & (left != 0)).sum())

    def report(self, where: str, dtype: str) -> None:
        """Prints the shares; nothing where nothing was learned."""
        if not self.changed:
            return
        share = self.kept / self.updated
        print(
            f"{where} · saved in {dtype}: {share:.0%} of the float32 update survives, {self.moved / self.changed:.0%} of the "
            "weights that it changed",
            flush=True,
        )
        if share < _SMALL:
            print(
                f"{where}: most of what was learned lies between the points of {dtype} and is not in the saved model; "
                "model.save_dtype=float32 keeps it (at twice the size), a higher learning rate moves more weights.",
                file=sys.stderr,
                flush=True,
            )


def save_trained(context: StageContext, trainer: Any, tokenizer: Any, base_path: str) -> list[Path]:
    """Writes all weights in one place, in `model.save_dtype`: gathered from the ranks in the precision that the optimiser has
    them in, or a LoRA adapter merged into its base in float32 and kept beside it.

    Every rank takes part; the files are returned on rank 0.
    """
    section, target = context.config.model, context.stage_dir / MODEL_DIR
    model = trainer.accelerator.unwrap_model(trainer.model)
    trained_in = str(next(model.parameters()).dtype).removeprefix("torch.")
    if context.training.lora is None:
        exact = _full_precision(model)
    else:
        adapter = context.stage_dir / "adapter"
        trainer.save_model(str(adapter))
        if not context.is_main:
            return []
        (adapter / "training_args.bin").unlink(missing_ok=True)  # a pickle: safetensors and JSON only
        make_tokenizer_readable(adapter)
        model = _merged(section, adapter, base_path, trained_in)
        if section.quantization is not None:
            return save_model(model, tokenizer, target)
        exact = ((name, parameter.detach()) for name, parameter in model.named_parameters())
    name_of_dtype = section.save_dtype or section.dtype
    dtype, rounds = getattr(torch, name_of_dtype), context.is_main and name_of_dtype != "float32"
    before = _weights_at(section, base_path, trained_in) if rounds else {}
    weights, survival = {}, Survival()
    for name, value in exact:
        if context.is_main:
            weights[name] = value.to("cpu", dtype)
        if name in before and value.dtype == torch.float32:
            survival.add(before[name].float(), value.cpu(), weights[name])
    if not context.is_main:
        return []
    survival.report(f"{context.config.run.name} · {context.stage.name}", name_of_dtype)
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    weights |= {name: value for name, value in model.state_dict().items() if name not in parameters}
    return save_model(model, tokenizer, target, weights)


def _full_precision(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Each parameter, whole, from the optimiser's float32 copy where DeepSpeed has one; all ranks take it together."""
    for name, parameter in model.named_parameters():
        yield name, _exact(parameter)


def _exact(parameter: nn.Parameter) -> Tensor:
    if is_sharded(parameter) or hasattr(parameter, "_hp_mapping"):  # ZeRO-3; ZeRO-1, 2 and bfloat16 without ZeRO
        from deepspeed.utils import safe_get_full_fp32_param

        master: Tensor | None = safe_get_full_fp32_param(parameter)
        if master is not None:  # it is of a frozen weight
            return master.detach()
    with whole([parameter]):
        return parameter.detach().clone()


def _weights_at(section: ModelSection, path: str, dtype: str) -> dict[str, Tensor]:
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()  # under ZeRO-3 it would load as shards
    return dict(load_model(section, path, dtype).named_parameters())


def _merged(section: ModelSection, adapter: Path, base_path: str, dtype: str) -> Any:
    """The base in float32, as it was loaded in `dtype` to train the adapter, with the adapter in its weights.

    Tied embeddings of which the adapter changed only one, or each on its own, are two weights then.
    """
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()
    base = load_model(section, base_path, dtype)
    if section.quantization is not None:
        return PeftModel.from_pretrained(base, str(adapter)).merge_and_unload()
    base = base.float()
    tied = base.get_output_embeddings().weight is base.get_input_embeddings().weight
    if tied:
        base.get_output_embeddings().weight = nn.Parameter(base.get_input_embeddings().weight.detach().clone())
    merged = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload()
    head, embedding = merged.get_output_embeddings(), merged.get_input_embeddings()
    if tied:
        if same := torch.equal(head.weight, embedding.weight):
            head.weight = embedding.weight
        merged.config.tie_word_embeddings = merged.config.get_text_config().tie_word_embeddings = same
    return merged
