"""Models in GGUF files: made into safetensors once, and kept in the user's cache."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trainer.errors import ConfigError
from trainer.record import cache_directory, fingerprint_of, hash_file, locked

SUFFIX = ".gguf"


@dataclass(frozen=True)
class Gguf:
    """Attributes:
    name: for errors, and part of the directory's name.
    parts: the file, or the pieces that make it, one behind another.
    sha256: of the whole, where it is known beforehand.
    """

    name: str
    parts: tuple[Path, ...]
    sha256: str | None = None

    def converted(self) -> Path:
        """The directory with the model as safetensors, in the file's own float type, or float32 where it is quantised; made
        at the first call, for all processes, and found again later. Another content, or another version of transformers, is
        another directory.

        Raises:
            ConfigError: it cannot be read, is not what it should be, or there is no room.
        """
        try:
            digest = self.sha256 or hash_file(self.parts[0])
            home = cache_directory("models")
            target = home / f"{self.name}-{fingerprint_of([digest, version('transformers')])}"
            if target.is_dir():
                return target
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            with locked(target.with_name(f"{target.name}.lock")):
                if not target.is_dir():
                    self._make(target, target.with_name(f"{target.name}.partial"))
        except OSError as error:
            raise ConfigError(
                f"{self.name} cannot be made into safetensors: {error}. They are kept in {cache_directory('models')}; "
                "XDG_CACHE_HOME names another place."
            ) from error
        return target

    def _make(self, target: Path, partial: Path) -> None:
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        partial.mkdir()
        try:
            with self._whole(partial) as file:
                print(f"{self.name}: its weights are made into safetensors once, in {target}", flush=True)
                _convert(file, partial)
            partial.rename(target)
        except Exception as error:
            shutil.rmtree(partial, ignore_errors=True)
            if isinstance(error, (OSError, ConfigError)):
                raise
            raise ConfigError(f"{self.name} is no GGUF that transformers {version('transformers')} reads: {error}") from error

    @contextmanager
    def _whole(self, scratch: Path) -> Iterator[Path]:
        """One file with the content that is expected."""
        file = self.parts[0]
        if len(self.parts) > 1:
            file = scratch / f"joined{SUFFIX}"
            with file.open("wb") as joined:
                for part in self.parts:
                    with part.open("rb") as piece:
                        shutil.copyfileobj(piece, joined, 1 << 20)
        if self.sha256 is not None:
            with file.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
            if found != self.sha256:
                raise ConfigError(f"{self.name}: its file has the SHA-256 {found}, not {self.sha256}; install it again.")
        yield file
        if file not in self.parts:
            file.unlink()


def _convert(file: Path, out: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    place = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    tokenizer: Any = AutoTokenizer.from_pretrained(**place)
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        **place, dtype="auto", quantization_config=GgufConfig(dequantize=True), output_loading_info=True
    )
    model, report = loaded
    if missing := sorted(report["missing_keys"]):  # transformers would fill them with random numbers and go on
        raise ValueError(f"{len(missing)} weights are missing ({', '.join(missing[:3])})")
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
