"""The tensors of a saved model, read one at a time: what is computed from several models never holds two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from trainer.errors import ArtifactError


class Weights(Mapping[str, Tensor]):
    """Name -> tensor of the safetensors files in a directory.

    Raises:
        ArtifactError: there are none, or one is damaged.
    """

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)
        self._files: dict[str, Any] = {}
        try:
            for path in sorted(self.directory.glob("*.safetensors")):
                file = safe_open(path, framework="pt")
                self._files |= dict.fromkeys(file.keys(), file)
        except (OSError, SafetensorError) as error:
            raise ArtifactError(f"model at {directory} cannot be read: {error}; copy it again.") from error
        if not self._files:
            raise ArtifactError(f"model at {directory}: no safetensors weights found.")

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._files[name].get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


@contextmanager
def other_weights(model: Any, weights: Mapping[str, Tensor], change: Callable[[str, Tensor], Tensor]) -> Iterator[Any]:
    """The model with `change(name, tensor)` of these weights in the place of its own, which come back at the end.

    Raises:
        ArtifactError: they are not those of a model of this shape.
    """
    own = {name: tensor for name, tensor in model.state_dict().items() if name in weights}
    missing = {id(p) for p in model.parameters()} - {id(p) for n, p in model.named_parameters() if n in weights}
    if missing:
        raise ArtifactError(f"the weights lack {len(missing)} of {type(model).__name__}; they are of another model.")
    kept = {name: tensor.to("cpu", copy=True) for name, tensor in own.items()}
    try:
        with torch.no_grad():
            for name, tensor in own.items():
                new = weights[name]
                if new.shape != tensor.shape:
                    raise ArtifactError(f"{name} is {tuple(new.shape)}, not {tuple(tensor.shape)}: it is of another model.")
                tensor.copy_(change(name, new))
        yield model
    finally:
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(kept[name])
