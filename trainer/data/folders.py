"""Which files of a folder hold the split that is asked for, in the layouts that datasets are published in."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from trainer.data.card import splits_on_card
from trainer.data.readers import KINDS, kind_of
from trainer.errors import DataError

_KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_WORD = re.compile("|".join(rf"(?P<{split}>(?:{'|'.join(words)})(?:set|data|split)?\d*)" for split, words in _KEYWORDS.items()))
_SHARD = re.compile(r"(?P<name>.*?)(?:[-_.]?(?:part|shard))?[-_.]?\d+(?:-of-(?P<count>\d+)(?:-[0-9a-f]+)?)?")
_METADATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json")
_NOT_READ = (".zst", ".bz2", ".xz", ".lz4", ".zip")  # how data is packed, besides .gz


@dataclass(frozen=True)
class _Part:
    """A file of a folder. split: the name of the split that its path says; None where it says none. group: the folders above
    that, but for `data`."""

    path: Path
    split: str | None
    group: str


def data_files(folder: Path, split: str | None, subset: str | None = None) -> list[Path]:
    """The data files below a folder that make up a split, in the order of their names.

    A file's split is the name of a folder around it (`train/0.jsonl`) or its own (`train.jsonl`, `harmless_val.json`,
    `data/test-00000-of-00002.parquet`). A name that differs by more than a number is another split (`train_sft`,
    `train_prefs`). Where no file names one, the files of the folder are one dataset. The folder's README.md goes first, where
    it says which files are which split, as on the hub.

    Args:
        split: the full name, or train, validation or test where one split only is of that kind; None: there must be just one.
        subset: which of the datasets that the README.md names, or a folder of that name; None: there is one, or one that is
            marked as the default.

    Raises:
        DataError: there is no data, the subset is not there, the split is not there or could be several, or some of it is
            there twice.
        ValueError: `dataset_dict.json` is damaged.
    """
    if (saved := folder / "dataset_dict.json").is_file():
        return [folder / _chosen(folder, json.loads(saved.read_text())["splits"], split, unnamed=False)]
    files = _files_in(folder)
    on_card = {name: _matching(files, patterns) for name, patterns in splits_on_card(folder, subset).items()}
    if here := {name: found for name, found in on_card.items() if found}:
        paths = here[_chosen(folder, list(here), split, unnamed=False)]
        _check_complete(folder, paths)
        return [folder / path for path in paths]
    if subset is not None:
        return data_files(_folder_of(folder, subset), split)
    parts = [_part(path, split) for path in files]
    if named := list(dict.fromkeys(part.split for part in parts if part.split is not None)):
        chosen = _chosen(folder, named, split, unnamed=any(part.split is None for part in parts))
        parts = [part for part in parts if part.split == chosen]
    elif any(not part.group for part in parts):
        parts = [part for part in parts if not part.group]
    if len(groups := list(dict.fromkeys(part.group or "." for part in parts))) > 1:
        raise DataError(f"{folder}: holds several datasets, in {', '.join(groups)}; give the path of one of these folders.")
    _check_complete(folder, [part.path for part in parts])
    return [folder / part.path for part in parts]


def _folder_of(folder: Path, subset: str) -> Path:
    """
    Raises:
        DataError: there is none of that name.
    """
    for below in (folder / subset, folder / "data" / subset):
        if below.is_dir():
            return below
    raise DataError(f"{folder}: holds no dataset {subset}, neither as a folder nor on its README.md; give the name of one.")


def _matching(files: Sequence[Path], patterns: Sequence[str]) -> list[Path]:
    return [path for path in files if any(fnmatch(str(path), pattern.removeprefix("./")) for pattern in patterns)]


def all_splits(folder: Path) -> dict[str, list[Path]]:
    """All data files below a folder, by the names that they would have as splits, in the order of their names.

    Raises:
        DataError: there is no data.
        ValueError: `dataset_dict.json` is damaged.
    """
    if (saved := folder / "dataset_dict.json").is_file():
        return {name: [folder / name] for name in json.loads(saved.read_text())["splits"]}
    found: dict[str, list[Path]] = {}
    for path in _files_in(folder):
        found.setdefault(split_name(path), []).append(folder / path)
    return found


def split_name(path: Path) -> str:
    """What a file would be as a split: its name without what kind of file it is, and without the number of a part."""
    stem = _stem(Path(path.name))
    shard = _SHARD.fullmatch(stem)
    return shard["name"] if shard else stem


def files_below(folder: Path) -> list[Path]:
    """All files below a folder that are not hidden, as seen from it, in the order of their names."""
    inside: list[Path] = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        inside += [Path(root, name).relative_to(folder) for name in names if not name.startswith((".", "__"))]
    return sorted(inside)


def _files_in(folder: Path) -> list[Path]:
    """The data files below a folder, as seen from it, in the order of their names.

    Raises:
        DataError: there are none, or one is packed in a way that is not read.
    """
    inside = files_below(folder)
    if packed := [path for path in inside if path.suffix in _NOT_READ and kind_of(path.with_suffix(""))]:
        raise DataError(f"{folder / packed[0]}: {packed[0].suffix} is not read; unpack it, or pack it with gzip.")
    found = [path for path in inside if kind_of(path) and path.name not in _METADATA]
    if not found:
        raise DataError(f"{folder}: no data file here; accepted: {', '.join(KINDS)} (and .gz of them).")
    return found


def _check_complete(folder: Path, paths: Sequence[Path]) -> None:
    """
    Raises:
        DataError: a file is there in two forms, or one of a numbered series is missing.
    """
    forms: dict[str, Path] = {}
    families = Counter((path.parent, split_name(path)) for path in paths)
    for path in paths:
        if (other := forms.setdefault(_stem(path), path)) != path:
            raise DataError(f"{folder}: {other} and {path} look like the same rows twice; remove one of them.")
        shard = _SHARD.fullmatch(_stem(Path(path.name)))
        here = families[path.parent, split_name(path)]
        if shard and shard["count"] and int(shard["count"]) != here:
            raise DataError(
                f"{folder}: {path} is one of {int(shard['count'])} files of this name, and here are {here}; download all of "
                "them anew, or give the path of one file."
            )


def _stem(path: Path) -> str:
    """The path without the suffixes that say what kind of file it is."""
    return re.sub(rf"({'|'.join(map(re.escape, KINDS))})(\.gz)?$", "", str(path), flags=re.IGNORECASE)


def _part(path: Path, asked: str | None) -> _Part:
    folders = path.parts[:-1]
    place = next((i for i, name in enumerate(folders) if name == asked or _kinds(name)), None)
    if place is not None:
        split: str | None = folders[place]
    else:
        split = split_name(path)
        shard = _SHARD.fullmatch(_stem(Path(path.name)))
        if not (_kinds(split) or (shard and shard["count"])):
            split = None
    return _Part(path, split, "/".join(name for name in folders[:place] if name != "data"))


def _kinds(name: str) -> set[str]:
    """Which of train, validation and test a name speaks of."""
    words = map(_WORD.fullmatch, re.split(r"[^a-z0-9]+", name.lower()))
    return {str(word.lastgroup) for word in words if word}


def _chosen(folder: Path, names: Sequence[str], asked: str | None, unnamed: bool) -> str:
    """Which of the splits is meant. unnamed: whether there are files beside them that name none.

    Raises:
        DataError: none, or it could be several.
    """
    if asked is not None and asked in names:
        return asked
    if asked is None:
        fit = [] if unnamed else list(names)
    else:
        fit = [name for name in names if asked in _kinds(name)]
        if len(names) == 1 and not unnamed and not _kinds(names[0]):
            fit = list(names)
    if len(fit) == 1:
        return fit[0]
    several = len(names) > 1
    raise DataError(
        f"{folder}: holds the split{'s' if several else ''} {', '.join(names)}{' and files of none' if unnamed else ''}; it is "
        f"not clear which is {'meant' if asked is None else asked}. Set the key split "
        "(of test sets: test_split; of prompts: splits.NAME) to the name of one, or give the path of one file."
    )
