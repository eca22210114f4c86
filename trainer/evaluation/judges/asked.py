"""Judges that answer in words, and are all asked the same questions; the one here is a chat model on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from trainer.config.sections import ModelSection
from trainer.errors import ArtifactError, ConfigError
from trainer.evaluation.generate import answers_to, by_model
from trainer.evaluation.judges.model import ModelJudgeSection
from trainer.evaluation.judges.questions import ADDRESSED, COMPLIES, RATING, RISKS, Exchange, Question, combine
from trainer.evaluation.kept import how_loaded, inputs_of_stage, kept_of
from trainer.items import Chat, Item, Judge, Verdict
from trainer.models.device import device_of_rank
from trainer.models.load import load_model, load_tokenizer
from trainer.pipeline.context import StageContext

T = TypeVar("T")


class Respondent(Protocol):
    """Who is asked. All ranks ask together and get the same replies."""

    def expect(self, asked: Sequence[tuple[Question[Any], Sequence[Chat]]]) -> None:
        """Told once, before the first question, of all that may be asked."""

    def reply(self, question: Question[Any], chats: Sequence[Chat]) -> list[str]:
        """The text for each chat, at most `question.max_new_tokens` tokens of it."""

    def facts(self) -> dict[str, Any]:
        """As of `Judge`."""


class AskedJudge(Judge):
    """Of an item with a guideline it asks whether the response keeps to it, of any other which risks the response carries. The
    rating is asked only of responses that address their request. Capability is not judged."""

    def __init__(self, respondent: Respondent):
        self.respondent = respondent

    def facts(self) -> dict[str, Any]:
        return self.respondent.facts()

    def __call__(self, items: list[Item], responses: list[str]) -> list[Verdict]:
        """One verdict per response, with the replies to every question that was asked; no judgement where one that it needs was
        not understood."""
        exchanges = list(zip(items, responses, strict=True))
        self._expect(exchanges)
        addressed = self._ask(ADDRESSED, exchanges)
        risks = self._risks(exchanges)
        rated = [index for index, (_, answer) in enumerate(addressed) if answer]
        answers = self._ask(RATING, [exchanges[index] for index in rated])
        ratings = dict(zip(rated, answers, strict=True))
        verdicts = []
        for index, (first, second) in enumerate(zip(addressed, risks, strict=True)):
            (to_addressed, is_addressed), (about_risks, to_risks, found) = first, second
            replies = {ADDRESSED.name: to_addressed, about_risks: to_risks}
            rating: int | None = None
            if index in ratings:
                replies[RATING.name], rating = ratings[index]
            verdicts.append(Verdict(combine(is_addressed, found, rating), replies))
        return verdicts

    def _expect(self, exchanges: Sequence[Exchange]) -> None:
        asked: list[tuple[Question[Any], list[Exchange]]] = [
            (ADDRESSED, list(exchanges)),
            (RISKS, [exchange for exchange in exchanges if not exchange[0].guideline]),
            (COMPLIES, [exchange for exchange in exchanges if exchange[0].guideline]),
            (RATING, list(exchanges)),
        ]
        self.respondent.expect([(question, [question.chat(one) for one in of_it]) for question, of_it in asked])

    def _risks(self, exchanges: Sequence[Exchange]) -> list[tuple[str, str, frozenset[str] | None]]:
        """The question that was asked, the reply, and what it says."""
        found: dict[int, tuple[str, str, frozenset[str] | None]] = {}
        for question, guided in ((RISKS, False), (COMPLIES, True)):
            asked = [index for index, (item, _) in enumerate(exchanges) if bool(item.guideline) == guided]
            answers = self._ask(question, [exchanges[index] for index in asked])
            found |= {index: (question.name, *answer) for index, answer in zip(asked, answers, strict=True)}
        return [found[index] for index in range(len(exchanges))]

    def _ask(self, question: Question[T], exchanges: Sequence[Exchange]) -> list[tuple[str, T | None]]:
        """Reply, and what it says."""
        chats = [question.chat(exchange) for exchange in exchanges]
        return [(reply, question.parse(reply)) for reply in self.respondent.reply(question, chats)] if chats else []


class LocalModel:
    """The chat model at `path`, every rank with a share of what is asked; greedy. It shares the `attn_implementation` of the
    model under evaluation and nothing else. It is loaded when first needed.

    Args:
        key: of its section in the config.
    """

    def __init__(self, section: ModelJudgeSection, key: str, context: StageContext):
        self.context, self.key, self.batch_size = context, key, section.batch_size
        self.model = ModelSection(  # type: ignore[call-arg]  # mypy does not see pydantic's constructor
            path=str(Path(section.path or "").expanduser()),
            dtype="bfloat16" if torch.cuda.is_available() else "float32",
            attn_implementation=context.config.model.attn_implementation,
            trust_remote_code=False,
        )
        content = inputs_of_stage(context)[f"{key}.path"]
        known = content != context.stage.reads[f"{key}.path"]
        loaded = how_loaded(self.model, trained=False)
        self.kept = kept_of(context, key, {"content": content, **loaded} if known else None)
        self._loaded: Any = None

    def expect(self, asked: Sequence[tuple[Question[Any], Sequence[Chat]]]) -> None:
        pass

    def facts(self) -> dict[str, Any]:
        return {}

    def reply(self, question: Question[Any], chats: Sequence[Chat]) -> list[str]:
        """
        Raises:
            ConfigError: it has no tokenizer or no chat template.
            ArtifactError: its weights are missing, damaged, or not safetensors.
        """
        answering = by_model(self._model_and_tokenizer, question.max_new_tokens, self.batch_size)
        return answers_to(self.context, chats, self.kept, answering, question.max_new_tokens, f"judging ({question.name})")

    @contextmanager
    def _model_and_tokenizer(self) -> Iterator[tuple[Any, Any]]:
        """Stays for the next question."""
        if self._loaded is None:
            path = str(self.model.path)
            try:
                tokenizer = load_tokenizer(self.model, path)
                self._loaded = load_model(self.model, path).to(device_of_rank()), tokenizer
            except (ConfigError, ArtifactError) as error:
                raise type(error)(f"{self.key}.path: {error}") from error
        yield self._loaded


def of_model(section: ModelJudgeSection, key: str, context: StageContext) -> Judge:
    return AskedJudge(LocalModel(section, key, context))
