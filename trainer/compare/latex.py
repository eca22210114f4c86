"""The short table of a comparison as table.tex, for booktabs."""

from __future__ import annotations

from pathlib import Path

from trainer.compare.comparison import Comparison
from trainer.compare.text import NOTE, number, short

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip
_ARROWS = {"up": r" $\uparrow$", "down": r" $\downarrow$", "": ""}


def write_latex(comparison: Comparison, path: Path) -> None:
    found = short(comparison)
    lines = [
        r"% \usepackage{booktabs}",
        f"% {comparison.title}. {NOTE}",
        rf"\begin{{tabular}}{{l{'r' * len(found.metrics)}}}",
        r"\toprule",
        _line(["model", *(escaped(metric.title) + _ARROWS[metric.direction] for metric in found.metrics)]),
        r"\midrule",
    ]
    for row in found.rows:
        cells = []
        for metric in found.metrics:
            cell = found.cells.get((row.key, metric.name))
            if cell is None or cell.value is None:
                cells.append("--")
                continue
            ends = [number(end, metric.unit) for end in (cell.low, cell.high) if end is not None]
            interval = rf" {{\scriptsize [{', '.join(ends)}]}}" if ends else ""
            cells.append(_minus(number(cell.value, metric.unit) + interval))
        lines.append(_line([escaped(row.key), *cells]))
    path.write_text("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n")


def escaped(text: str) -> str:
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def _minus(text: str) -> str:
    return text.replace("-", r"$-$")


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"
