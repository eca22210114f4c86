"""What binds a safety artifact to the base model that it was made from: the content of its weights."""

from __future__ import annotations

from trainer.models.weights import weights_directory
from trainer.record import fingerprint_of, hash_files


def base_fingerprint(path: str) -> str:
    """The fingerprint of the weights at a local path, or of a hub model as it lies in the cache: of all their bytes. Ranks ask
    together (`StageContext.together`), so that one reads them.

    Raises:
        ArtifactError: there are no safetensors weights.
    """
    files = sorted(weights_directory(path).glob("*.safetensors"))
    return fingerprint_of([[file.name, digest] for file, digest in zip(files, hash_files(files), strict=True)])
