"""What binds a safety artifact to the base model that it was made from: the content of its weights."""

from __future__ import annotations

from pathlib import Path

from transformers.utils import cached_file

from trainer.errors import ArtifactError
from trainer.record import fingerprint_of, hash_files


def base_fingerprint(path: str) -> str:
    """The fingerprint of the weights at a local path, or of a hub model as it lies in the cache: of all their bytes. Ranks ask
    together (`StageContext.together`), so that one reads them.

    Raises:
        ArtifactError: there are no safetensors weights.
    """
    directory = Path(path) if Path(path).exists() else _in_cache(path)
    files = sorted(directory.glob("*.safetensors")) if directory is not None else []
    if not files:
        raise ArtifactError(f"model at {path}: no safetensors weights found; safety artifacts are bound to them.")
    return fingerprint_of([[file.name, digest] for file, digest in zip(files, hash_files(files), strict=True)])


def _in_cache(name: str) -> Path | None:
    found = cached_file(name, "config.json", _raise_exceptions_for_missing_entries=False)
    return None if found is None else Path(found).parent
