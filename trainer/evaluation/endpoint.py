"""Chats with a model behind an endpoint that speaks the protocol of OpenAI's chat completions. What it replied is on the disk
before anything is made of it, and is never asked again."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from openai import APIConnectionError, APIStatusError, OpenAI
from tqdm import tqdm

from trainer.config.endpoint import EndpointSection
from trainer.errors import ConfigError, StageFailed
from trainer.evaluation.kept import Append, Kept, kept_of
from trainer.items import Chat
from trainer.pipeline.context import StageContext
from trainer.pipeline.watchdog import beat
from trainer.record import fingerprint_of

_LONGEST_WAIT = 60.0  # s, between two tries, where the server names no time
_CHARACTERS = 4  # of a token, about: the endpoint's tokenizer is not here
_NEVER = (401, 403, 404, 405)  # the answer will be the same for every request
_LATER = (408, 409, 425, 429)  # and 5xx
_MILLION = 1e6
_SHOWN = 200  # characters of what a server said


class Unanswered(Exception):
    """A reply that is none."""


class Endpoint:
    """One rank asks it.

    Args:
        key: of the section in the config.
        kept: where its replies are: the text and the tokens of prompt and reply, by request.

    Attributes:
        refused: request -> why the server refuses it for what is in it (400, 413, 422). The reply is that, and is not kept.
    """

    def __init__(self, section: EndpointSection, key: str, kept: Kept):
        self.section, self.key, self.kept = section, key, kept
        name = section.api_key_env
        if (secret := "none" if name is None else os.environ.get(name)) is None:
            raise ConfigError(f"{key}.api_key_env: the environment variable {name} is not set on this node; pass it on.")
        self.client = OpenAI(base_url=section.url, api_key=secret, timeout=section.timeout, max_retries=0)
        self.used: dict[str, dict[str, Any]] = {}  # the rows of all that was asked for, by request
        self.refused: dict[str, str] = {}
        self.paid: set[str] = set()  # those that were not kept before
        self._stopping = threading.Event()

    @classmethod
    def of(cls, section: EndpointSection, key: str, context: StageContext) -> Endpoint:
        """Its replies are kept for all runs."""
        return cls(section, key, kept_of(context, key, {"url": section.url, "model": section.model}))

    def request(self, chat: Chat, max_new_tokens: int) -> dict[str, Any]:
        """The fields of a request."""
        fields: dict[str, Any] = {"temperature": 0, "max_tokens": max_new_tokens, **self.section.options}
        given = {name: value for name, value in fields.items() if value is not None}
        return {"model": self.section.model, "messages": list(chat), **given}

    def announce(self, asked: Sequence[tuple[Sequence[Chat], int]]) -> None:
        """Prints what it will take at most to ask these chats for so many tokens each: what is kept costs nothing.

        Raises:
            ConfigError, StageFailed: as `replies`; nothing is paid for.
        """
        done = self.kept.read()
        requests = [self.request(chat, tokens) for chats, tokens in asked for chat in chats]
        left = [request for request in requests if fingerprint_of(request) not in done]
        characters = sum(len(message["content"]) for request in left for message in request["messages"])
        prompt, reply = characters // _CHARACTERS, sum(tokens * len(chats) for chats, tokens in asked)
        reply = reply * len(left) // max(len(requests), 1)
        cost = self._dollars(prompt, reply)
        print(
            f"{self.key}: {self.section.model} at {self.section.url}: at most {len(left):,} requests "
            f"({len(requests) - len(left):,} are kept), about {prompt:,} tokens of prompts and at most {reply:,} of replies: "
            + (f"at most about ${cost:,.2f}" if cost is not None else "no costs known (price_in, price_out)"),
            flush=True,
        )

    def replies(self, chats: Sequence[Chat], max_new_tokens: int, what: str) -> list[str]:
        """The text for each chat. Stopped on the way, it asks nothing more and waits for what is on its way, which is paid for.

        Args:
            what: is done, for the progress bar.

        Raises:
            ConfigError: the server does not know the model, or refuses the key.
            StageFailed: it gives no answer, for `retries` times.
        """
        requests = {fingerprint_of(request): request for request in (self.request(chat, max_new_tokens) for chat in chats)}
        keys = [fingerprint_of(self.request(chat, max_new_tokens)) for chat in chats]
        self.used |= {key: row for key, row in self.kept.read().items() if key in requests}
        if left := {key: request for key, request in requests.items() if key not in self.used}:
            self._ask(left, what)
        return [self.refused[key] if key in self.refused else self.used[key]["text"] for key in keys]

    def facts(self) -> dict[str, Any]:
        """Requests and tokens of all that was asked for; of those, the requests and the costs of this time."""
        now = [self.used[key] for key in self.paid]
        spent = self._dollars(*(sum(row[name] for row in now) for name in ("prompt_tokens", "completion_tokens")))
        return {
            "model": self.section.model,
            "requests": len(self.used),
            "refused": len(self.refused),
            "prompt_tokens": sum(row["prompt_tokens"] for row in self.used.values()),
            "completion_tokens": sum(row["completion_tokens"] for row in self.used.values()),
            "requests_now": len(now),
            "dollars_now": spent,
        }

    def _dollars(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        prices = self.section.price_in, self.section.price_out
        if prices[0] is None or prices[1] is None:
            return None
        return (prompt_tokens * prices[0] + completion_tokens * prices[1]) / _MILLION

    def _ask(self, requests: dict[str, dict[str, Any]], what: str) -> None:
        lock = threading.Lock()
        self._stopping.clear()
        with self.kept.appending() as append, ThreadPoolExecutor(self.section.concurrency) as pool:
            started = [pool.submit(self._one, key, request, append, lock) for key, request in requests.items()]
            try:
                for future in tqdm(as_completed(started), total=len(started), desc=what, unit="response"):
                    future.result()
            except BaseException:
                self._stopping.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _one(self, key: str, request: dict[str, Any], append: Append, lock: threading.Lock) -> None:
        """Asks until there is a reply, and keeps it."""
        try:
            row = self._answer(request)
        except APIStatusError as error:
            with lock:
                self.refused[key] = f"({_said(error)})"
            return
        with lock:
            append([(key, row)])
            self.used[key] = row
            self.paid.add(key)

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """
        Raises:
            APIStatusError: the server refuses this request, whenever it is sent.
        """
        known = {name: request[name] for name in ("model", "messages")}
        more = {name: value for name, value in request.items() if name not in known}
        for tried in range(self.section.retries + 1):
            beat()
            try:
                return _row(self.client.chat.completions.create(**known, extra_body=more))
            except APIStatusError as error:
                if error.status_code in _NEVER:
                    raise ConfigError(f"{self.key}: {self.section.url} refuses {self.section.model}: {_said(error)}") from error
                if error.status_code not in _LATER and error.status_code < 500:
                    raise
                why: Exception = error
                wait = _asked_to_wait(error)
            except (APIConnectionError, Unanswered, ValueError) as error:  # ValueError: what is sent as JSON and is none
                why, wait = error, None
            if tried < self.section.retries:
                self._stopping.wait(min(2.0**tried, _LONGEST_WAIT) * random.uniform(0.75, 1.0) if wait is None else wait)
            if self._stopping.is_set():
                break
        raise StageFailed(
            f"{self.key}: {self.section.url} gave no answer, asked {tried + 1} times: {_said(why)}. What it answered before is "
            "kept, and the same command goes on from there."
        )


def asked(section: EndpointSection, key: str, context: StageContext, chats: Sequence[Chat], what: str) -> list[str]:
    """What the model says to each of these chats, as `generation` asks; on all ranks together.

    Raises:
        StageFailed: besides what `replies` raises: the server refuses a request. That is no answer of the model.
    """
    endpoint, limit = Endpoint.of(section, key, context), context.config.generation.max_new_tokens

    def ask() -> list[str]:
        endpoint.announce([(chats, limit)])
        texts = endpoint.replies(chats, limit, what)
        if endpoint.refused:
            raise StageFailed(
                f"{key}: {section.url} refuses {len(endpoint.refused)} of {len(texts)} requests, such as: "
                f"{next(iter(endpoint.refused.values()))}. Answers are kept; change {key}.options, or leave those prompts out."
            )
        return texts

    return context.together(ask)


def _row(completion: Any) -> dict[str, Any]:
    """
    Raises:
        Unanswered: the server sent something else.
    """
    try:
        choice, usage = completion.choices[0], completion.usage
        text = choice.message.content
        tokens = (0, 0) if usage is None else (int(usage.prompt_tokens or 0), int(usage.completion_tokens or 0))
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise Unanswered(f"a reply without choices or a message: {str(completion)[:_SHOWN]}") from error
    if text is not None and not isinstance(text, str):
        raise Unanswered(f"a message that is no text: {str(text)[:_SHOWN]}")
    return {"text": (text or "").strip(), "prompt_tokens": tokens[0], "completion_tokens": tokens[1]}


def _said(error: Exception) -> str:
    if isinstance(error, APIStatusError):
        return f"HTTP {error.status_code}: {error.response.text[:_SHOWN]}"
    cause = "" if error.__cause__ is None else f" ({error.__cause__})"
    return f"{type(error).__name__}: {str(error)[:_SHOWN]}{cause}"


def _asked_to_wait(error: APIStatusError) -> float | None:
    """Seconds, of the header Retry-After; a date in it counts as none."""
    try:
        return min(max(float(error.response.headers["retry-after"]), 0.0), 2 * _LONGEST_WAIT)
    except (KeyError, ValueError):
        return None
