"""Runs that drills are compared with, and the table of drills, printed after the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.drills.harness import EVALUATED, TABLE, undisturbed


@pytest.fixture(scope="session")
def undisturbed_zero2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undisturbed(tmp_path_factory.mktemp("undisturbed-zero2"), "deepspeed=zero2", *EVALUATED)


@pytest.fixture(scope="session")
def undisturbed_zero3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undisturbed(tmp_path_factory.mktemp("undisturbed-zero3"), "deepspeed=zero3", *EVALUATED)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not TABLE:
        return
    from rich.console import Console
    from rich.table import Table

    columns = list(dict.fromkeys(row.where for row in TABLE))
    table = Table(title="Drills that ended well: what was kept, and how long the disturbed start took")
    for heading in ("drill", *columns):
        table.add_column(heading)
    for drill in dict.fromkeys(row.drill for row in TABLE):
        facts = {row.where: row.fact for row in TABLE if row.drill == drill}
        table.add_row(drill, *(facts.get(column, "") for column in columns))
    Console(width=110).print(table)
