"""Rows of a dataset, wherever it is: a file, a directory of files, or a dataset of the hub."""

from __future__ import annotations

from pathlib import Path

from trainer.config.paths import looks_local
from trainer.data.files import Located, checked, read_rows
from trainer.errors import DataError


def read_source(source: str, split: str | None) -> list[Located]:
    """All rows of a file, or of a split of a directory or of the hub dataset of that name; None: there must be just one.

    Raises:
        DataError: nothing can be read there.
    """
    return read_rows(Path(source).expanduser(), split) if looks_local(source) else hub_rows(source, split)


def hub_rows(name: str, split: str | None) -> list[Located]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        dataset = load_dataset(name, split=split)
    except (DatasetsError, OSError, ValueError) as error:
        raise DataError(
            f"{name}: the hub dataset cannot be had: {error}. Without a network, download it first and give the path of its "
            "directory."
        ) from error
    if split is None:
        if len(dataset) > 1:
            raise DataError(f"{name}: holds the splits {', '.join(dataset)}; set the key split to the name of one.")
        (dataset,) = dataset.values()
    return [checked(row, f"{name}: row {number}") for number, row in enumerate(dataset.to_list(), start=1)]
