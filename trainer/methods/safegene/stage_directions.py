"""Stage `safety_directions`, for SaLoRA alone: the directions in which layers of the aligned model answer harmful prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from trainer.methods.safegene.salora import BASES, OutputRecorder, safety_basis
from trainer.methods.safegene.section import SafeGeneMethod
from trainer.methods.safegene.stage_data import Prompts
from trainer.methods.safegene.stage_measure import aligned_path
from trainer.models.blocks import decoder_blocks
from trainer.models.device import device_of_rank
from trainer.models.load import load_model, load_tokenizer
from trainer.pipeline.context import StageContext


def run(context: StageContext) -> list[Path]:
    return context.together(lambda: _write(context))


def _write(context: StageContext) -> list[Path]:
    config, method = context.config, context.config.method
    assert isinstance(method, SafeGeneMethod)
    path = aligned_path(config, context.run_dir)
    tokenizer, model = load_tokenizer(config.model, path), load_model(config.model, path).to(device_of_rank()).eval()
    outputs = _outputs(model, tokenizer, Prompts.of_run(context.run_dir).harmful, config.generation.batch_size)
    rank = method.constants.safety_rank
    save_file({name: safety_basis(found, rank).contiguous() for name, found in outputs.items()}, context.stage_dir / BASES)
    return [context.stage_dir / BASES]


@torch.inference_mode()
def _outputs(model: Any, tokenizer: Any, prompts: list[str], batch_size: int) -> dict[str, torch.Tensor]:
    """Linear layer -> what it gives for the last token of every prompt, (N, out)."""
    names = {module: name for name, module in model.named_modules()}
    tokenizer.padding_side = "left"
    with OutputRecorder(decoder_blocks(model), names) as recorder:
        for start in range(0, len(prompts), batch_size):
            chats = [[{"role": "user", "content": prompt}] for prompt in prompts[start : start + batch_size]]
            inputs = tokenizer.apply_chat_template(
                chats, add_generation_prompt=True, return_dict=True, return_tensors="pt", padding=True
            )
            model(**{name: inputs[name].to(model.device) for name in ("input_ids", "attention_mask")})
    return {name: torch.cat(rows) for name, rows in recorder.outputs.items()}
