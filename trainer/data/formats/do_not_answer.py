"""Do-Not-Answer (arXiv 2308.13387): risky questions, the answers of several models, and whether each does harm."""

from __future__ import annotations

from typing import Literal

from trainer.config.section import section
from trainer.data.files import Row, require_columns
from trainer.data.formats.labels import LabelledFiles
from trainer.data.labelled import Labelled, label_of, labelled, text_or_empty
from trainer.errors import DataError

_RESPONSE, _LABEL = "_response", "_harmful"


@section
class DoNotAnswerData(LabelledFiles):
    """`question`, and for every model M that was asked `M_response` and `M_harmful`, 1 = the response does harm. Labels the
    responses; a row gives as many of ours as it has models."""

    format: Literal["do_not_answer"]

    @property
    def labels_prompts(self) -> bool:
        return False

    def parse(self, where: str, row: Row) -> list[Labelled | str]:
        return from_do_not_answer(where, row)


def from_do_not_answer(where: str, row: Row) -> list[Labelled | str]:
    models = [str(name).removesuffix(_RESPONSE) for name in row if str(name).endswith(_RESPONSE)]
    if not models:
        raise DataError(
            f"{where}: has no column M{_RESPONSE} of a model M; its columns are {', '.join(map(str, row)) or 'none'}."
        )
    require_columns([(where, row)], ("question", *(model + _LABEL for model in models)), "do_not_answer")
    question = text_or_empty(row["question"], where, "question")
    return [
        labelled(
            question,
            text_or_empty(row[model + _RESPONSE], where, model + _RESPONSE),
            None,
            label_of(row[model + _LABEL], where, model + _LABEL),
        )
        for model in models
    ]
