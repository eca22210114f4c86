"""PKU-SafeRLHF (arXiv 2406.15513)."""

from __future__ import annotations

from typing import Any, Literal

from trainer.config.section import section
from trainer.data.files import Located, Row, require_columns
from trainer.data.formats.pairs import PreferenceFiles
from trainer.data.messages import prompt_of, reply_of
from trainer.data.preferences import Preference, Preferences
from trainer.errors import DataError

COLUMNS = ("prompt", "response_0", "response_1")


@section
class PkuData(PreferenceFiles):
    """`prompt`, `response_0`, `response_1` and which of them is the safer and which the better; or `prompt` and `response` with
    two in a list, the safer first.

    prefer: which of them is chosen.
    """

    format: Literal["pku"]
    prefer: Literal["safer", "better"] = "safer"

    def parse(self, rows: list[Located]) -> Preferences:
        return from_pku(rows, self.prefer)


def from_pku(rows: list[Located], prefer: Literal["safer", "better"] = "safer") -> Preferences:
    result = Preferences(rows=len(rows))
    for where, row in rows:
        both = _listed(row, where, prefer) if "response" in row else _numbered(row, where, prefer)
        chosen, rejected = (reply_of(text, where, "response") for text in both)
        result.add(Preference(prompt_of(row["prompt"], where), chosen, rejected, where))
    return result


def _listed(row: Row, where: str, prefer: str) -> tuple[Any, Any]:
    require_columns([(where, row)], ("prompt",), "pku")
    both = row["response"]
    if not isinstance(both, list) or len(both) != 2:
        raise DataError(f"{where}: response must be a list of two, the safer first.")
    if prefer != "safer":
        raise DataError(f"{where}: response says which is the safer and not which is the {prefer}; use data.prefer=safer.")
    return both[0], both[1]


def _numbered(row: Row, where: str, prefer: str) -> tuple[Any, Any]:
    """Chosen and rejected."""
    column = f"{prefer}_response_id"
    require_columns([(where, row)], (*COLUMNS, column), "pku")
    number = str(row[column])
    if number not in ("0", "1"):
        raise DataError(f"{where}: {column} is {row[column]!r}; it must be 0 or 1.")
    return row[f"response_{number}"], row[f"response_{1 - int(number)}"]
