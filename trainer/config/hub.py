"""What of the hub is on this machine: its cache, which is what is read without a network."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

from trainer.config.paths import looks_local


def cached(name: str, kind: str = "model", revision: str | None = None) -> Path | None:
    """The files of a hub name (of a dataset, its subset does not count) in this machine's cache; None where they are not there,
    and for paths.

    Args:
        kind: `model` or `dataset`.
        revision: a branch, tag or commit; None is the newest that was fetched.
    """
    if looks_local(name):
        return None
    repository, revision = name.partition(":")[0], revision or constants.DEFAULT_REVISION
    folder = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repository, repo_type=kind))
    try:
        commit = (folder / "refs" / revision).read_text().strip()
    except OSError:
        commit = revision
    snapshot = folder / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None


def prepared(name: str) -> bool:
    """Whether `datasets` has made its tables of a hub dataset, which it reads where the files themselves are not there."""
    from datasets import config  # takes a second
    from datasets.naming import camelcase_to_snakecase

    *namespace, own = name.partition(":")[0].split("/")
    return Path(config.HF_DATASETS_CACHE, "___".join([*namespace, camelcase_to_snakecase(own)])).is_dir()
