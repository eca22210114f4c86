"""What a directory that is to be evaluated holds."""

from __future__ import annotations

from enum import Enum
from pathlib import Path


class Found(Enum):
    """By the file that tells it; in this order, since a gene is an adapter too."""

    GENE = "gene.json"
    LORA = "adapter_config.json"
    ALIGNER = "adapter.json"
    RUN = "config.yaml"
    MODEL = "config.json"

    @classmethod
    def files(cls) -> str:
        return ", ".join(one.value for one in cls)


def found_at(path: str) -> Found | None:
    """None where it is none of these; what is no directory, a name of the hub or a GGUF, is a model's."""
    directory = Path(path).expanduser()
    if not directory.is_dir():
        return Found.MODEL
    held = [one for one in Found if (directory / one.value).exists()]
    merged = Found.MODEL in held and Found.LORA in held and any(directory.glob("model*.safetensors"))
    return Found.MODEL if merged else next(iter(held), None)
