"""What the contenders of a run say, whose models stand on this rank's device one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from trainer.dotted import resolve
from trainer.evaluation.generate import answers_to, by_model, key_of
from trainer.evaluation.judging import Answer
from trainer.evaluation.kept import identity_of, kept_of
from trainer.items import Chat, Contender, Item
from trainer.models.device import device_of_rank
from trainer.models.load import load_model, load_tokenizer
from trainer.pipeline.context import StageContext
from trainer.pipeline.places import MODEL_DIR, base_model_path

Asked = tuple[Contender, Item]

_ASKED = "trainer.evaluation.endpoint:asked"  # needs a package that not everybody has


def answers_of(context: StageContext, models: Models, asked: Sequence[Asked]) -> list[Answer]:
    """What every contender says to what it is asked, the same on all ranks."""
    limit = context.config.generation.max_new_tokens
    said: dict[tuple[str, str], str] = {}
    for weights in dict.fromkeys(contender.weights for contender, _ in asked):
        chats = [contender.messages(item) for contender, item in asked if contender.weights == weights]
        texts = models.answers(weights, chats)
        said |= {(weights, key_of(chat, limit)): text for chat, text in zip(chats, texts, strict=True)}
    return [(c.label, item, said[c.weights, key_of(c.messages(item), limit)]) for c, item in asked]


class Models:
    """The contenders' models, one at a time on this rank's device; the base stays there for those made of it that follow."""

    def __init__(self, context: StageContext):
        self.context = context
        self._trained = {training.stage for training in context.config.training}
        self._base: Any = None

    def answers(self, weights: str, chats: Sequence[Chat]) -> list[str]:
        """What it says to these chats; on all ranks together."""
        context, what = self.context, f"generating ({weights})"
        limit = context.config.generation.max_new_tokens
        if (endpoint := context.config.method.endpoint(weights)) is not None:
            texts: list[str] = resolve(_ASKED)(endpoint, f"method.endpoints.{weights}", context, chats, what)
            return texts
        kept = kept_of(context, weights, identity_of(context, weights))
        answering = by_model(partial(self.loaded, weights), limit, context.config.generation.batch_size)
        return answers_to(context, chats, kept, answering, limit, what)

    @contextmanager
    def loaded(self, weights: str) -> Iterator[tuple[Any, Any]]:
        """The model that a contender's weights are, and its tokenizer."""
        config, run_dir = self.context.config, self.context.run_dir
        own = str(run_dir / weights / MODEL_DIR) if weights in self._trained else config.method.weights_at(weights)
        if own is not None:
            self._base = None  # it makes room
            model = load_model(config.model, own, config.model.save_dtype).to(device_of_rank())
            yield model, load_tokenizer(config.model, own)
            return
        path = base_model_path(config, run_dir)
        tokenizer = load_tokenizer(config.model, path)
        if self._base is None:
            self._base = load_model(config.model, path).to(device_of_rank())
        with self._made_of_base(weights, path, tokenizer) as made:
            yield made, tokenizer

    def _made_of_base(self, weights: str, path: str, tokenizer: Any) -> AbstractContextManager[Any]:
        if weights == "base":
            return nullcontext(self._base)
        make = self.context.config.method.made_of_base
        assert make is not None  # the method has such contenders
        made: AbstractContextManager[Any] = resolve(make)(weights, self.context, self._base, path, tokenizer)
        return made
