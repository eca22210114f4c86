"""Rows of a dataset, wherever it is: a file, a directory of files, or a dataset of the hub."""

from __future__ import annotations

from pathlib import Path

from trainer.config.paths import looks_local
from trainer.data.files import Located, located, read_rows
from trainer.errors import DataError


def read_source(source: str, split: str) -> list[Located]:
    """All rows of a path, or of a split of the hub dataset of that name.

    Raises:
        DataError: nothing can be read there.
    """
    return read_rows(Path(source).expanduser()) if looks_local(source) else hub_rows(source, split)


def hub_rows(name: str, split: str) -> list[Located]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        dataset = load_dataset(name, split=split)
    except (DatasetsError, OSError, ValueError) as error:
        raise DataError(
            f"{name}: the hub dataset cannot be had: {error}. Without a network, download it first and give "
            "data.path=<directory>."
        ) from error
    return located(dataset.to_list(), name)
