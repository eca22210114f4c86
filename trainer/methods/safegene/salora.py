"""SaLoRA (arXiv 2501.01765): LoRA that leaves the directions alone in which a layer answers harmful prompts.

    y = W x + C B A x,  C = I - U U^T       U: the first r_s left singular vectors of W X_h, the layer's outputs on
                                            harmful prompts

B and A are trained, C is fixed. Exact: C. Ours: X_h are the last tokens of the prompts, and A and B start as LoRA's do; the
paper's start, from the task's own features, is not reproduced.

N prompts, r rank of the LoRA.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from trl import SFTTrainer

from trainer.errors import ArtifactError
from trainer.models.shards import whole

BASES = "salora.safetensors"


def safety_basis(outputs: Tensor, rank: int) -> Tensor:
    """U (out, r_s) of outputs (N, out); fewer columns where there are fewer prompts."""
    left, _, _ = torch.linalg.svd(outputs.double().T, full_matrices=False)
    return left[:, :rank].float()


def without(values: Tensor, basis: Tensor) -> Tensor:
    """C applied to the last axis: values (..., out), U (out, r_s)."""
    u = basis.to(values)
    return values - (values @ u) @ u.T


class OutputRecorder:
    """Records what every linear layer in a block gives for the last token of each row, padded on the left."""

    def __init__(self, blocks: nn.ModuleList, names: Mapping[nn.Module, str]):
        self.outputs: dict[str, list[Tensor]] = {}
        self._stack = ExitStack()
        for module in blocks.modules():
            if isinstance(module, nn.Linear):
                handle = module.register_forward_hook(self._recording(names[module]))
                self._stack.callback(handle.remove)

    def _recording(self, name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            self.outputs.setdefault(name, []).append(output[:, -1].float().cpu())

        return hook

    def __enter__(self) -> OutputRecorder:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class SaloraTrainer(SFTTrainer):
    """
    Args:
        bases: file of site -> U.
    """

    def __init__(self, *args: Any, bases: Path, **kwargs: Any):
        super().__init__(*args, **kwargs)
        known, trained = load_file(bases), self.accelerator.unwrap_model(self.model)
        self._kept_out: list[tuple[nn.Module, Tensor]] = []
        for site, module in trained.get_base_model().named_modules():
            if not hasattr(module, "lora_B"):
                continue
            if site not in known:
                raise ArtifactError(f"{bases}: has nothing of {site}; delete {bases.parent} to redo the stage.")
            into = module.lora_B["default"]
            self._kept_out.append((into, known[site]))
            into.register_forward_hook(lambda _m, _i, output, u=known[site]: without(output, u))

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """B becomes C B, which plain LoRA then applies; to training that is the same."""
        for module, basis in self._kept_out:
            weight: Any = module.weight
            with torch.no_grad(), whole([weight], changed_on=0):
                weight.copy_(without(weight.T, basis).T)
        super().save_model(output_dir, _internal_call)
