"""Bring what a run will read to `paths.mirror`: `python -m trainer.fetch experiment=paper/safesteer paths.mirror=mirror`.

Takes the overrides of `python -m trainer`, on a node with a network, and brings the models, tokenizers, datasets, evaluation
sets and judges that the mirror does not have; what it has is verified. The same command goes on where it was cut. Runs with
this mirror read it before the hub. Exit status: 0 when all is there, 1 when something is missing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.mirror import INDEX, Mirror
from trainer.config.packaged import PACKAGED
from trainer.config.run import RunConfig
from trainer.ending import KEYBOARD, explain
from trainer.errors import ArtifactError, ConfigError, KeelError
from trainer.fetch.hub import ask, bring, damaged, fetched
from trainer.fetch.wanted import Wanted, wanted
from trainer.kinds import CONFIG
from trainer.terminal import prepare

WIDTH = 120  # of the table, in a narrower terminal too


@dataclass(frozen=True)
class Row:
    """One line of the table. lacking: what to do about it; None where it is there."""

    keys: str
    name: str
    size: int | None
    licence: str
    where: str
    lacking: str | None = None


def config_of(overrides: Sequence[str]) -> RunConfig:
    """The config of a run whose files need not be there.

    Raises:
        ConfigError: a key or a type is wrong.
    """
    values = composed(overrides)
    try:
        config: RunConfig = TypeAdapter(CONFIG).validate_python(values)
        return config
    except ValidationError:
        return load_config(values)  # which says in our words what is wrong


def mirror_of(config: RunConfig) -> Mirror:
    """
    Raises:
        ConfigError: the config names none, or it cannot be made.
    """
    if config.paths.mirror is None:
        raise ConfigError("paths.mirror: there is no folder to bring things to; set paths.mirror=DIR, or KEEL_MIRROR.")
    root = Path(config.paths.mirror).expanduser()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"paths.mirror: {root} cannot be made: {error.strerror}; name another folder.") from error
    return Mirror(root)


def see_to(one: Wanted, mirror: Mirror, dry: bool) -> Row:
    """Bring one thing, unless it is there already or this is dry."""
    keys, packaged = ", ".join(one.keys), PACKAGED.get(one.name)
    if packaged is not None and packaged.gguf(one.name) is not None:
        return Row(keys, one.name, packaged.megabytes * 1_000_000, packaged.licence, f"package {packaged.install[0]}")
    if one.repository is None:
        path = Path(one.name).expanduser()
        return _row_of_path(keys, one.name, path, "", f"{one.name} does not exist, and is no name of the hub")
    place = mirror.find(one.kind, one.name if one.kind == "datasets" else one.repository, one.revision)
    directory = mirror.directory(one.kind, one.repository, one.revision)
    if place is not None and place.path != directory:
        lacking = f"{one.name} is {place.path} in {INDEX} of the mirror, and that does not exist"
        return _row_of_path(keys, one.name, place.path, place.licence or "", lacking)
    before, at = fetched(directory), directory.relative_to(mirror.root)
    whole = before is not None and not damaged(before, directory)
    if before is not None and whole and one.covered(before.covers):
        return Row(keys, one.name, before.size, before.licence, f"{at}, verified")
    try:
        found = ask(one, before.commit if before is not None else None)
        if dry:
            return Row(keys, one.name, found.size, found.licence, "on the hub", f"{one.name} is not in the mirror")
        bring(found, one, directory, before)
        return Row(keys, one.name, found.size, found.licence, f"{at}, fetched and verified")
    except ArtifactError as error:
        return Row(keys, one.name, None, "", "missing", str(error))


def _row_of_path(keys: str, name: str, path: Path, licence: str, lacking: str) -> Row:
    return Row(keys, name, None, licence, str(path)) if path.exists() else Row(keys, name, None, "", "missing", lacking)


def show(rows: Sequence[Row]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("read by", "name", "size", "licence", "where"):
        table.add_column(column, overflow="fold", justify="right" if column == "size" else "left")
    for row in rows:
        size = "" if row.size is None else f"{row.size / 1e6:,.1f} MB"
        table.add_row(row.keys, row.name, size, row.licence, row.where)
    Console(width=max(Console().width, WIDTH)).print(table, highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.fetch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="what you would give to python -m trainer")
    parser.add_argument("--dry-run", action="store_true", help="only say what is missing, its size and licence")
    given = parser.parse_args(arguments)
    try:
        config = config_of(given.overrides)
        mirror = mirror_of(config)
        rows = [see_to(one, mirror, given.dry_run) for one in wanted(config)]
    except KeelError as error:
        return explain(error)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return KEYBOARD
    if not rows:
        print("This run reads nothing from outside: what it needs ships with the package.")
        return 0
    show(rows)
    lacking = [row.lacking for row in rows if row.lacking is not None]
    if lacking:
        print(f"\n{len(lacking)} of {len(rows)} missing:", *(f"  - {line}" for line in lacking), sep="\n", file=sys.stderr)
    return 1 if lacking else 0


if __name__ == "__main__":
    prepare()
    sys.exit(main())
