"""Stage `select`: which layers of the gene are kept, with a picture; it leaves the gene as one artifact."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from trainer.items import Message
from trainer.methods.safegene.gene import Gene, architecture_of, tokenizer_fingerprint
from trainer.methods.safegene.names import DEGRADE, GENE, SELECT
from trainer.methods.safegene.picture import draw_scores
from trainer.methods.safegene.section import SafeGeneMethod
from trainer.methods.safegene.selection import chosen_layers, contrast, relative_change, weight_norms
from trainer.methods.safegene.stage_data import Prompts
from trainer.methods.safegene.stage_gene import ADAPTER
from trainer.methods.safegene.stage_measure import aligned_path, degraded_path, read_measured
from trainer.models.fingerprint import base_fingerprint
from trainer.models.inference import load_for_inference
from trainer.models.load import load_tokenizer
from trainer.models.low_rank import low_rank_added, read_adapter
from trainer.pipeline.context import StageContext
from trainer.tracking.tracker import Tracker

PICTURE = "layers.png"


def run(context: StageContext) -> list[Path]:
    context.connect()
    config, method, run_dir = context.config, context.config.method, context.run_dir
    assert isinstance(method, SafeGeneMethod)
    path = aligned_path(config, run_dir)
    tokenizer, model = load_tokenizer(config.model, path), load_for_inference(config, path)
    kinds = Prompts.of_run(run_dir).contrast
    aligned = [_last_states(context, model, tokenizer, prompts) for prompts in kinds]
    degraded_model, degraded_by = model, _degradation(method, run_dir, model)
    if method.degrade.lora is None:
        degraded_model = load_for_inference(config, str(degraded_path(run_dir)))
    with degraded_by:
        degraded = [_last_states(context, degraded_model, tokenizer, prompts) for prompts in kinds]
    if not context.is_main:
        return []
    harmful, benign = (relative_change(a, d) for a, d in zip(aligned, degraded, strict=True))
    additions = read_adapter(run_dir / GENE / ADAPTER)
    scores = contrast(harmful, benign, method.select.gamma)
    norms = weight_norms(additions, len(scores))
    kept = chosen_layers(method.select.by, scores, norms, method.select.layers, config.seed)
    gene = Gene(
        additions=additions,
        layers=kept,
        scores=scores,
        chosen_by=method.select.by,
        architecture=architecture_of(model),
        tokenizer=tokenizer_fingerprint(tokenizer),
        base_fingerprint=base_fingerprint(path),
        provenance={"run": config.run.name, "seed": config.seed, "model": config.model.path, **read_measured(run_dir)},
    )
    files = gene.save(run_dir / GENE / ADAPTER, context.stage_dir)
    draw_scores(scores, norms, kept, context.stage_dir / PICTURE)
    with Tracker.open(context) as tracker:
        tracker.image("layers", context.stage_dir / PICTURE)
        tracker.summary({"layers": kept, "scores": scores})
    print(
        f"{config.run.name} · {SELECT} · layers {', '.join(map(str, kept))} of {len(scores)} by {method.select.by}; picture: "
        f"{context.stage_dir / PICTURE}",
        flush=True,
    )
    return [*files, context.stage_dir / PICTURE]


def _degradation(method: SafeGeneMethod, run_dir: Path, model: Any) -> AbstractContextManager[None]:
    """Inside, the aligned model is the degraded one, where that is the aligned one with an adapter."""
    if method.degrade.lora is None:
        return nullcontext()
    return low_rank_added(model, read_adapter(run_dir / DEGRADE / ADAPTER), lambda _site: 1.0)


@torch.inference_mode()
def _last_states(context: StageContext, model: Any, tokenizer: Any, prompts: list[str]) -> Tensor:
    """h_1 .. h_L at the last token of every prompt, on every rank: (N, L, H) float32. All ranks read equally many prompts, some
    of them twice, as sharded weights need."""
    method = context.config.method
    assert isinstance(method, SafeGeneMethod)
    size, world = method.select.batch_size, context.world_size
    mine = [min(place, len(prompts) - 1) for place in range(context.rank, -(-len(prompts) // world) * world, world)]
    tokenizer.padding_side = "left"
    found: dict[int, Tensor] = {}
    for start in tqdm(range(0, len(mine), size), desc="reading", unit="batch", disable=not context.is_main):
        rows = mine[start : start + size]
        chats: list[list[Message]] = [[{"role": "user", "content": prompts[row]}] for row in rows]
        inputs = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, return_dict=True, return_tensors="pt", padding=True
        )
        ids, mask = (inputs[name].to(model.device) for name in ("input_ids", "attention_mask"))
        states = model(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False).hidden_states[1:]
        found |= zip(rows, torch.stack([state[:, -1].float().cpu() for state in states], dim=1), strict=True)
    everyones: dict[int, Tensor] = {}
    for share in context.gather(found):
        everyones |= share
    return torch.stack([everyones[row] for row in range(len(prompts))])
