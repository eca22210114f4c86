"""ToxiGen, with its human ratings."""

from __future__ import annotations

import math
from typing import Literal

from trainer.config.section import section
from trainer.data.files import Row, require_columns
from trainer.data.formats.labels import LabelledFiles
from trainer.data.labelled import Labelled, label_of, labelled, text_or_empty
from trainer.errors import DataError

TOXIC = 4.0  # mean human toxicity, 1 to 5, from which a text of ToxiGen counts as toxic


@section
class ToxigenData(LabelledFiles):
    """A text is toxic where its `toxicity_human` is at least 4; or a machine-written `generation` with the 0/1 `prompt_label`
    of what it was written from. Labels the prompt."""

    format: Literal["toxigen"]

    def parse(self, where: str, row: Row) -> Labelled | str:
        return from_toxigen(where, row)


def from_toxigen(where: str, row: Row) -> Labelled | str:
    if "toxicity_human" not in row and "generation" in row:
        require_columns([(where, row)], ("generation", "prompt_label"), "toxigen")
        text = text_or_empty(row["generation"], where, "generation")
        return labelled(text, "", label_of(row["prompt_label"], where, "prompt_label"), None)
    require_columns([(where, row)], ("text", "toxicity_human"), "toxigen")
    try:
        toxicity = float(row["toxicity_human"])
    except (TypeError, ValueError):
        toxicity = math.nan
    if not 1 <= toxicity <= 5:
        raise DataError(f"{where}: toxicity_human is {row['toxicity_human']!r}; it must be a number from 1 to 5.")
    return labelled(text_or_empty(row["text"], where, "text"), "", int(toxicity >= TOXIC), None)
