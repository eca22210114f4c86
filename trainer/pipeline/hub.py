"""Which commit a name of the hub stands for, and whether it stands for anything."""

from __future__ import annotations

import re
from functools import cache

from huggingface_hub import HfApi
from huggingface_hub.constants import is_offline_mode
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

from trainer.config.hub import cached, prepared

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TIMEOUT = 10  # s


def commit_of(name: str, kind: str) -> str | None:
    """The commit of `name`, of the dataset of `name:subset`, or of `name@revision`: the one in this machine's cache, which is
    what is loaded without a network, or else the newest of the hub. None where neither is known.

    Args:
        kind: `model` or `dataset`.
    """
    named, _, revision = name.partition("@")
    repository = named.partition(":")[0]
    if _COMMIT.fullmatch(revision):
        return revision
    here = cached(repository, kind, revision or None)
    return _asked(repository, kind, revision or None)[0] if here is None else here.name


def why_absent(name: str, kind: str) -> str | None:
    """Why what `name`, or `name@revision`, stands for cannot be loaded; None where it is in the cache, or may be on the hub.
    Arguments: as `commit_of`."""
    repository, _, revision = name.partition("@")
    if cached(repository, kind, revision or None) is not None:
        return None
    if not is_offline_mode():
        return _asked(repository, kind, revision or None)[1]
    if kind == "dataset" and prepared(repository):
        return None
    return (
        f"there is no such path, and no {kind} of that name in this machine's cache of the hub, which HF_HUB_OFFLINE forbids "
        "to ask; give the path of its directory, or fetch it where there is a network: "
        f"hf download {repository.partition(':')[0]}{' --repo-type dataset' if kind == 'dataset' else ''}"
    )


@cache
def _asked(name: str, kind: str, revision: str | None) -> tuple[str | None, str | None]:
    """The hub's newest commit, and why there is none."""
    try:
        return HfApi().repo_info(name.partition(":")[0], repo_type=kind, revision=revision, timeout=_TIMEOUT).sha, None
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        return None, f"there is no such path, and the hub has no such {kind} for you ({type(error).__name__}); mend the name."
    except Exception:  # no network (an error of some HTTP library): whoever loads it says so
        return None, None
