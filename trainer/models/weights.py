"""The tensors of a saved model, read one at a time: what is computed from several models never holds two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers.utils import cached_file

from trainer.config.models import model_place
from trainer.errors import ArtifactError


def weights_directory(path: str | Path) -> Path:
    """Where the files of a model are: on this machine, or of a hub model as it lies in the cache.

    Raises:
        ArtifactError: there are no safetensors weights.
    """
    place = model_place(str(path))
    directory = Path(place)
    if not directory.exists() and (found := cached_file(place, "config.json", _raise_exceptions_for_missing_entries=False)):
        directory = Path(found).parent
    if not any(directory.glob("*.safetensors")):
        raise ArtifactError(f"model at {path}: no safetensors weights found.")
    return directory


class Weights(Mapping[str, Tensor]):
    """Name -> tensor of the safetensors files of a model, named by its path or as on the hub.

    Raises:
        ArtifactError: there are none, or one is damaged.
    """

    def __init__(self, model: str | Path):
        self._files: dict[str, Any] = {}
        try:
            for path in sorted(weights_directory(model).glob("*.safetensors")):
                file = safe_open(path, framework="pt")
                self._files |= dict.fromkeys(file.keys(), file)
        except (OSError, SafetensorError) as error:
            raise ArtifactError(f"model at {model} cannot be read: {error}; copy it again.") from error

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
