"""`paths.mirror`: a folder with copies of what the hub has, which is read before the hub is.

It holds what `trainer.fetch` brought, below `models/` and `datasets/`, and copies of the user's own, which an
`index.yaml` names:

    datasets:
      OWNER/NAME: {path: a-folder, licence: MIT}
      OWNER/OTHER:SUBSET: {path: some/file.csv, split: test}
    models:
      OWNER/NAME: {path: a-model}

A path is relative to the mirror: a folder, laid out as on the hub or by the names of its splits, or one file, which is the one
split that `split` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from trainer.errors import ConfigError

INDEX = "index.yaml"
FETCHED = ".fetched.json"  # in the directory of what was fetched, written when it is whole
Kind = Literal["models", "datasets"]


@dataclass(frozen=True)
class Place:
    """A model or a dataset on this machine.

    Attributes:
        path: a file or a directory.
        split: which one a file is; None where that was not said, and it is read whole whatever is asked for.
        subset: which dataset of a directory is meant, where it holds several.
        licence: as the index has it.
    """

    path: Path
    split: str | None = None
    subset: str | None = None
    licence: str | None = None


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class _Entry:
    path: str
    split: str | None = None
    licence: str | None = None


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class _Index:
    models: dict[str, _Entry] = field(default_factory=dict)
    datasets: dict[str, _Entry] = field(default_factory=dict)

    def of(self, kind: Kind) -> Mapping[str, _Entry]:
        return self.models if kind == "models" else self.datasets


class Mirror:
    """
    Raises:
        ConfigError: it is no folder, or its index cannot be read.
    """

    def __init__(self, root: Path):
        self.root = root.expanduser().absolute()
        if not self.root.is_dir():
            raise ConfigError(f"paths.mirror: {root} is no directory; make it, or give another.")
        self._index = _read(self.root / INDEX)

    def find(self, kind: Kind, name: str, revision: str | None = None) -> Place | None:
        """The copy of what has this name on the hub: `OWNER/NAME`, a dataset also `OWNER/NAME:SUBSET`. One of the index need
        not be there."""
        repository, _, subset = name.partition(":")
        for key, part in ((name, None), (repository, subset or None)):
            if revision is None and (entry := self._index.of(kind).get(key)):
                path = self.root / Path(entry.path).expanduser()
                split = entry.split or ("train" if kind == "datasets" and path.is_file() else None)
                return Place(path, split, part, entry.licence)
        directory = self.directory(kind, repository, revision)
        return Place(directory, subset=subset or None) if (directory / FETCHED).is_file() else None

    def directory(self, kind: Kind, repository: str, revision: str | None = None) -> Path:
        """Where what is fetched lies."""
        return self.root / kind / (repository if revision is None else f"{repository}@{revision}")


def _read(path: Path) -> _Index:
    try:
        values: Any = yaml.safe_load(path.read_text()) if path.exists() else {}
        return TypeAdapter(_Index).validate_python({key: value or {} for key, value in (values or {}).items()})
    except ValidationError as error:
        raise ConfigError(
            [f"paths.mirror: {path}: {'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        ) from error
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise ConfigError(f"paths.mirror: {path} cannot be read: {error}") from error


_used: Mirror | None = None


def use_mirror(path: str | None) -> None:
    """From here on this process reads that mirror, or none. Whoever reads a config that is to be carried out calls this: names
    are looked up where a model or dataset is read, below what knows the config.

    Raises: as `Mirror`.
    """
    global _used
    _used = None if path is None else Mirror(Path(path))


def mirrored(kind: Kind, name: str, revision: str | None = None) -> Place | None:
    """As `Mirror.find`, in the mirror of this process."""
    return None if _used is None else _used.find(kind, name, revision)
