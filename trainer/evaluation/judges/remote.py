"""A chat model behind an endpoint as judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainer.evaluation.endpoint import Endpoint
from trainer.evaluation.judges.asked import AskedJudge
from trainer.evaluation.judges.endpoint import EndpointJudgeSection
from trainer.evaluation.judges.questions import Question
from trainer.items import Chat, Judge
from trainer.pipeline.context import StageContext


class Remote:
    """A chat model behind an endpoint, asked by rank 0, which has all of it to limit.

    Args:
        key: of its section in the config.
    """

    def __init__(self, section: EndpointJudgeSection, key: str, context: StageContext):
        self.context, self.endpoint = context, Endpoint.of(section, key, context)

    def expect(self, asked: Sequence[tuple[Question[Any], Sequence[Chat]]]) -> None:
        self.context.together(lambda: self.endpoint.announce([(chats, one.max_new_tokens) for one, chats in asked]))

    def facts(self) -> dict[str, Any]:
        return self.endpoint.facts()

    def reply(self, question: Question[Any], chats: Sequence[Chat]) -> list[str]:
        what = f"judging ({question.name})"
        return self.context.together(lambda: self.endpoint.replies(chats, question.max_new_tokens, what))


def of_endpoint(section: EndpointJudgeSection, key: str, context: StageContext) -> Judge:
    return AskedJudge(Remote(section, key, context))
