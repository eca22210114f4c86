"""What the hub has of a repository, and how it comes into a mirror: resumed where it was cut, and verified."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from trainer.config.mirror import FETCHED
from trainer.data.card import splits_on_card
from trainer.data.readers import kind_of
from trainer.errors import ArtifactError, DataError
from trainer.fetch.wanted import Wanted
from trainer.pipeline.places import NOT_LOADED
from trainer.record import hash_file, write_json

CARD = "README.md"
_SECONDS = 30.0
_WEIGHTS = "*.safetensors"


@dataclass(frozen=True)
class File:
    """Attributes: size in bytes; sha256 of the content, or where the hub has none, git's name of it."""

    size: int
    sha256: str | None
    blob: str | None

    def is_at(self, path: Path) -> bool:
        """Whether that is this file."""
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        return hash_file(path) == self.sha256 if self.sha256 is not None else _blob(path) == self.blob


@dataclass(frozen=True)
class Repository:
    """What is wanted of one. Attributes: commit; licence as its card says; files by their paths; covers, what they are."""

    name: str
    commit: str
    licence: str
    files: dict[str, File]
    covers: tuple[str, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files.values())


def ask(wanted: Wanted, commit: str | None) -> Repository:
    """What the hub has of it.

    Args:
        commit: None is its newest, or the revision that is wanted.

    Raises:
        ArtifactError: nothing, or it does not answer.
    """
    assert wanted.repository is not None  # only of names of the hub
    kind = wanted.kind.removesuffix("s")
    try:
        info: Any = HfApi(endpoint=_endpoint()).repo_info(
            wanted.repository, repo_type=kind, revision=commit or wanted.revision, files_metadata=True, timeout=_SECONDS
        )
        files = {file.rfilename: File(file.size, file.lfs.sha256 if file.lfs else None, file.blob_id) for file in info.siblings}
        chosen = _of_model(files, wanted.weights) if wanted.kind == "models" else _of_dataset(wanted, info.sha, files)
    except ArtifactError:
        raise
    except Exception as error:  # of some HTTP library
        raise ArtifactError(f"{wanted.name}: {_reason(wanted, error)}") from error
    card = info.card_data.to_dict() if info.card_data else {}
    licence = card.get("license_name") or card.get("license") or "no licence given"
    text = licence if isinstance(licence, str) else ", ".join(licence)
    return Repository(wanted.repository, info.sha, text, chosen, (wanted.what,))


def _of_model(files: dict[str, File], weights: bool) -> dict[str, File]:
    left_out = [*NOT_LOADED, *([] if weights else [_WEIGHTS])]
    return {name: file for name, file in files.items() if not any(fnmatch(name, pattern) for pattern in left_out)}


def _of_dataset(wanted: Wanted, commit: str, files: dict[str, File]) -> dict[str, File]:
    """Those of the subset, where the card says which; otherwise all data.

    Raises:
        ArtifactError: there is no data in files that are read here.
    """
    patterns: list[str] = []
    if CARD in files:
        with tempfile.TemporaryDirectory() as scratch:
            hf_hub_download(
                str(wanted.repository), CARD, repo_type="dataset", revision=commit, local_dir=scratch, endpoint=_endpoint()
            )
            try:
                patterns = [one for of_split in splits_on_card(Path(scratch), wanted.subset).values() for one in of_split]
            except DataError:
                patterns = []  # several subsets: a run will name one
    data = {name: file for name, file in files.items() if kind_of(Path(name))}
    chosen = {n: f for n, f in data.items() if any(fnmatch(n, pattern.removeprefix("./")) for pattern in patterns)} or data
    if not chosen:
        raise ArtifactError(f"{wanted.name}: the hub has no data files of it that are read here, only a program that loads it.")
    return chosen | {name: file for name, file in files.items() if name == CARD}


def bring(repository: Repository, wanted: Wanted, directory: Path, before: Repository | None) -> None:
    """Download what is not there yet, and verify it. before: what was brought earlier, of the same commit.

    Raises:
        ArtifactError: it does not fit, the connection broke, or what came is not what the hub has.
    """
    missing = {name: file for name, file in repository.files.items() if not file.is_at(directory / name)}
    needed = sum(file.size for file in missing.values())
    directory.mkdir(parents=True, exist_ok=True)
    if needed > (free := shutil.disk_usage(directory).free):
        raise ArtifactError(f"{wanted.name}: {needed / 1e9:.2f} GB do not fit into {free / 1e9:.2f} GB free at {directory}.")
    for name in missing:
        (directory / name).unlink(missing_ok=True)  # damaged, or of another commit
    try:
        snapshot_download(
            repository.name,
            repo_type=wanted.kind.removesuffix("s"),
            revision=repository.commit,
            local_dir=directory,
            allow_patterns=list(missing) or [CARD],
            endpoint=_endpoint(),
        )
    except Exception as error:  # of some HTTP library
        raise ArtifactError(f"{wanted.name}: {_reason(wanted, error)}; the same command goes on from here.") from error
    if bad := [name for name, file in missing.items() if not file.is_at(directory / name)]:
        for name in bad:
            (directory / name).unlink(missing_ok=True)
        raise ArtifactError(f"{wanted.name}: {', '.join(bad)} came damaged and was removed; the same command fetches it again.")
    if before is not None:
        repository = replace(
            repository, files=before.files | repository.files, covers=tuple(dict.fromkeys(before.covers + repository.covers))
        )
    write_json(directory / FETCHED, asdict(repository))


def fetched(directory: Path) -> Repository | None:
    """What was brought there, as it was then; None where that was no mirror of a repository, or it is not whole."""
    try:
        found = json.loads((directory / FETCHED).read_text())
        files = {name: File(**file) for name, file in found["files"].items()}
        return Repository(found["name"], found["commit"], found["licence"], files, tuple(found["covers"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def damaged(repository: Repository, directory: Path) -> list[str]:
    """The files that are not what they were."""
    return [name for name, file in repository.files.items() if not file.is_at(directory / name)]


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _blob(path: Path) -> str:
    content = path.read_bytes()  # such files are small: larger ones are in LFS
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _reason(wanted: Wanted, error: Exception) -> str:
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set, so the hub is not asked; unset it on a node with a network"
    if isinstance(error, GatedRepoError):
        return f"the hub gives it to those who accepted its terms at its page; do that, and log in (hf auth login): {error}"
    if isinstance(error, RevisionNotFoundError):
        return f"the hub has no revision {wanted.revision} of it"
    if isinstance(error, RepositoryNotFoundError):
        return f"the hub has no {wanted.kind.removesuffix('s')} of this name, or not for you (hf auth login)"
    said = str(error).splitlines()[0] if str(error) else "no answer"
    return f"nothing comes from the hub ({type(error).__name__}: {said}); this needs a node with a network"
