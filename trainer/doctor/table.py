"""The findings for a person: a mark and one line per fact, and under a fault its fix."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from trainer.doctor.checks import Finding

_WIDTH = 16  # of the column of subjects


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """The marks differ without colour as well: ✓ well, ! worth reading, ✗ a fault."""
    for finding in findings:
        mark, style = _mark(finding)
        line = Text.assemble((f"{mark} ", style), (f"{finding.subject:<{_WIDTH}}", "bold"), finding.fact)
        console.print(line, soft_wrap=True, highlight=False)
        if finding.fix is not None:
            console.print(Text.assemble(" " * (_WIDTH + 2), ("-> ", style), finding.fix), soft_wrap=True, highlight=False)
    faults = sum(finding.is_fault for finding in findings)
    console.print("all well" if not faults else f"{faults} fault{'s' if faults > 1 else ''}", style="bold")


def _mark(finding: Finding) -> tuple[str, str]:
    if finding.fix is None:
        return "✓", "green"
    return ("✗", "red") if finding.is_fault else ("!", "yellow")
