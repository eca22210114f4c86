"""The published schema of CoSAlign (arXiv 2410.08968)."""

from __future__ import annotations

import re
from typing import Literal

from trainer.config.section import section
from trainer.cosa.taxonomy import COSA, Taxonomy
from trainer.data.files import Located, require_columns, text_of
from trainer.data.formats.pairs import PreferenceFiles
from trainer.data.preferences import Preference, Preferences
from trainer.errors import DataError

COLUMNS = ("system_prompt", "prompt", "chosen_response", "rejected_response")
LABELS = ("spec_i", "spec_j", "chosen_cat", "rejected_cat")  # checked where present
_OF_REPLY = re.compile(
    r"\s*\((.*),\s*(?:[01]|true|false)\s*\)\s*", re.IGNORECASE
)  # the risks of a response, and whether it addresses its request


@section
class CosalignData(PreferenceFiles):
    """Columns system_prompt, prompt, chosen_response, rejected_response, and labels of categories where there are any."""

    format: Literal["cosalign"]

    def parse(self, rows: list[Located]) -> Preferences:
        return from_cosalign(rows)


def from_cosalign(rows: list[Located], taxonomy: Taxonomy = COSA) -> Preferences:
    """The published CoSAlign schema; its category labels are checked against the taxonomy."""
    require_columns(rows, COLUMNS, "cosalign")
    result = Preferences(rows=len(rows))
    for where, row in rows:
        for column in LABELS:
            if row.get(column) is not None:
                label = text_of(row, column, where)
                pair = _OF_REPLY.fullmatch(label)
                try:
                    taxonomy.parse_label(pair[1] if pair else label)
                except DataError as error:
                    raise DataError(f"{where}: {column}: {error}") from None
        system, prompt, chosen, rejected = (text_of(row, c, where) for c in COLUMNS)
        messages = ({"role": "system", "content": system}, {"role": "user", "content": prompt})
        result.add(Preference(messages, chosen, rejected, where))
    return result
