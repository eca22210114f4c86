"""TRL's explicit preference format."""

from __future__ import annotations

from typing import Literal

from trainer.config.section import section
from trainer.data.files import Located, require_columns
from trainer.data.formats.pairs import PreferenceFiles
from trainer.data.messages import prompt_of, reply_of
from trainer.data.preferences import Preference, Preferences


@section
class ExplicitData(PreferenceFiles):
    """Columns prompt, chosen, rejected, each text or chat messages."""

    format: Literal["preference"]

    def parse(self, rows: list[Located]) -> Preferences:
        return from_preference(rows)


def from_preference(rows: list[Located]) -> Preferences:
    """TRL's explicit preference format: `prompt`, `chosen`, `rejected`, each text or chat messages."""
    require_columns(rows, ("prompt", "chosen", "rejected"), "preference")
    result = Preferences(rows=len(rows))
    for where, row in rows:
        prompt = prompt_of(row["prompt"], where)
        chosen, rejected = (reply_of(row[column], where, column) for column in ("chosen", "rejected"))
        result.add(Preference(prompt, chosen, rejected, where))
    return result
