"""Prints the table of drills after the tests."""

from __future__ import annotations

from typing import Any

from tests.drills.harness import TABLE


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
