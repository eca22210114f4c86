"""The task models that an evaluation compares, made one at a time in the place of the base's weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from trainer.methods.safegene import merging, names
from trainer.methods.safegene.gated import gated_model
from trainer.methods.safegene.gene import Gene
from trainer.methods.safegene.section import BaselineSection, SafeGeneMethod
from trainer.methods.safegene.selection import layer_of
from trainer.methods.safegene.stage_gene import ADAPTER
from trainer.methods.safegene.stage_measure import aligned_path, degraded_path
from trainer.methods.safegene.stage_recalibrate import read_alpha
from trainer.models.blocks import decoder_blocks
from trainer.models.device import device_of_rank
from trainer.models.load import load_model
from trainer.models.low_rank import LowRank, read_adapter
from trainer.models.weights import Weights, other_weights
from trainer.pipeline.context import StageContext
from trainer.pipeline.places import MODEL_DIR, base_model_path

Change = Callable[[str, Tensor], Tensor]


@contextmanager
def made_of_base(label: str, context: StageContext, base: Any, base_path: str, tokenizer: Any) -> Iterator[Any]:
    """The model called `<task>/<method>`.

    Args:
        base: on its device; its weights come back afterwards.

    Raises:
        ArtifactError: something of which it is made is missing or damaged.
    """
    method, run_dir = context.config.method, context.run_dir
    assert isinstance(method, SafeGeneMethod)
    task, row = label.split("/")
    source = run_dir / names.task_stage(task) / MODEL_DIR
    if row == names.GATED:
        gene, alpha = Gene.load(run_dir / names.SELECT), read_alpha(run_dir, names.recalibrate_stage(task))
        model = load_model(context.config.model, str(source)).to(device_of_rank()).eval()
        assert method.guardrail is not None  # only then it is compared
        yield gated_model(base, base_path, Path(method.guardrail).expanduser(), model, gene.kept(list(alpha)), alpha)
        return
    with other_weights(base, Weights(source), _change(row, task, context, method, base)) as made:
        yield made


def _change(row: str, task: str, context: StageContext, method: SafeGeneMethod, model: Any) -> Change:
    config, run_dir = context.config, context.run_dir
    if row in ("resta", "safelora", "safemerge"):
        linear = {f"{name}.weight" for name in linear_layers(model)}
        unaligned = method.unaligned or base_model_path(config, run_dir)
        return _baseline(row, method.constants, linear, aligned_path(config, run_dir), run_dir, unaligned)
    gene = Gene.load(run_dir / names.SELECT)
    if row == names.ON_ALIGNED:
        other = read_adapter(run_dir / names.ON_ALIGNED_STAGE / ADAPTER)
        kept = {site: addition for site, addition in other.items() if layer_of(site) in gene.layers}
        return expressing(kept, dict.fromkeys(gene.layers, 1.0))
    if row == "alpha_one":
        return expressing(gene.kept(), dict.fromkeys(gene.layers, 1.0))
    alpha = read_alpha(run_dir, names.recalibrate_stage(task, "" if row == names.OWN else row))
    return expressing(gene.kept(list(alpha)), alpha)


def linear_layers(model: Any) -> list[str]:
    """Names of the linear layers in the blocks of a model."""
    inside = {id(module) for module in decoder_blocks(model).modules() if isinstance(module, nn.Linear)}
    return [name for name, module in model.named_modules() if id(module) in inside]


def expressing(additions: Mapping[str, LowRank], alpha: Mapping[int, float]) -> Change:
    """SafeGene's own."""
    sites = {f"{site}.weight": addition for site, addition in additions.items()}

    def change(name: str, task: Tensor) -> Tensor:
        return task if name not in sites else merging.expressed(task, sites[name].delta, alpha[layer_of(name)])

    return change


def _baseline(
    row: str, constants: BaselineSection, linear: set[str], aligned_at: str, run_dir: Path, unaligned_at: str
) -> Change:
    aligned = Weights(aligned_at)
    if row == "resta":
        degraded = Weights(degraded_path(run_dir))
        return lambda name, task: merging.resta(task, aligned[name], degraded[name], constants.gamma)
    unaligned = Weights(Path(unaligned_at).expanduser())
    if row == "safelora":
        return lambda name, task: (
            merging.safelora(task, aligned[name], unaligned[name], constants.tau) if name in linear else task
        )
    safe = Weights(run_dir / names.SAFETY / MODEL_DIR)
    return lambda name, task: (
        merging.safemerge(task, aligned[name], unaligned[name], safe[name], constants.tau, constants.share)
        if name in linear
        else task
    )
