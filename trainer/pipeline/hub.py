"""Which commit a name of the hub stands for."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from huggingface_hub import HfApi, constants
from huggingface_hub.file_download import repo_folder_name

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TIMEOUT = 10  # s


def commit_of(name: str, kind: str) -> str | None:
    """The commit of `name`, `name:subset` or `name@revision`: the one in this machine's cache, which is loaded without a
    network, or else the newest of the hub. None where neither is known.

    Args:
        kind: `model` or `dataset`.
    """
    named, _, revision = name.partition("@")
    repository = named.partition(":")[0]  # a subset is in its dataset's repository
    if _COMMIT.fullmatch(revision):
        return revision
    folder = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repository, repo_type=kind))
    try:
        return (folder / "refs" / (revision or constants.DEFAULT_REVISION)).read_text().strip()
    except OSError:
        return _asked(repository, kind, revision or None)


@cache
def _asked(name: str, kind: str, revision: str | None) -> str | None:
    try:
        return HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=_TIMEOUT).sha
    except Exception:  # unknown, no network (an error of some HTTP library), or no name of the hub: whoever loads it says so
        return None
