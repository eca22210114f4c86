"""Rows of a dataset, wherever it is: a file, a directory of files, the mirror, or the hub."""

from __future__ import annotations

from typing import Any

from trainer.config.datasets import dataset_place
from trainer.data.files import Located, checked, read_rows
from trainer.data.folders import all_splits, split_name
from trainer.data.readers import SAVED, kind_of
from trainer.errors import DataError


def read_source(source: str, split: str | None) -> list[Located]:
    """All rows of a file, or of a split of a directory or of the hub dataset of that name (`owner/name`, or
    `owner/name:subset`); None: there must be just one.

    Raises:
        DataError: nothing can be read there.
    """
    place = dataset_place(source)
    if place is None:
        return hub_rows(source, split)
    if place.split is not None and split not in (None, place.split):
        raise DataError(f"{source}: its copy in the mirror, {place.path}, is the split {place.split}, not {split}.")
    return read_rows(place.path, split, place.subset)


def read_splits(source: str) -> dict[str, list[Located]]:
    """All rows of a file, of every data file in a directory, or of every split of all subsets of a hub dataset, by the name of
    the split that they are in.

    Raises:
        DataError: nothing can be read there.
    """
    place = dataset_place(source)
    if place is None:
        return _hub_splits(source)
    path = place.path
    if not path.is_dir() or kind_of(path) == SAVED:
        return {place.split or split_name(path): read_rows(path)}
    try:
        files = all_splits(path)
    except (ValueError, LookupError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read: {error}; write it again.") from error
    return {name: [row for file in of_split for row in read_rows(file)] for name, of_split in files.items()}


def _hub_splits(name: str) -> dict[str, list[Located]]:
    from datasets import get_dataset_config_names, load_dataset
    from datasets.exceptions import DatasetsError

    try:
        subsets = [load_dataset(name, subset) for subset in get_dataset_config_names(name)]
    except (DatasetsError, OSError, ValueError) as error:
        raise _not_had(name, error) from error
    return {split: _located(rows, name) for subset in subsets for split, rows in subset.items()}


def hub_rows(name: str, split: str | None) -> list[Located]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        dataset = load_dataset(*name.split(":", 1), split=split)  # owner/name:subset
    except (DatasetsError, OSError, ValueError) as error:
        raise _not_had(name, error) from error
    if split is None:
        if len(dataset) > 1:
            raise DataError(
                f"{name}: holds the splits {', '.join(dataset)}; set the key split (of prompts: splits.NAME) to one."
            )
        (dataset,) = dataset.values()
    return _located(dataset, name)


def _located(dataset: Any, name: str) -> list[Located]:
    return [checked(row, f"{name}: row {number}") for number, row in enumerate(dataset.to_list(), start=1)]


def _not_had(name: str, error: Exception) -> DataError:
    return DataError(
        f"{name}: the hub dataset cannot be had: {error}. Without a network, bring it into a mirror first (python -m "
        "trainer.fetch, paths.mirror), or give the path of a copy."
    )
