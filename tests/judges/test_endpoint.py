"""The endpoint judge's client, against a real HTTP server on loopback that does what servers do to their clients."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.judges.chat_server import JSON, Answer, ChatServer, chat_server, completion
from tests.judges.stage import stage_here
from trainer.config.endpoint import EndpointSection
from trainer.errors import ConfigError, StageFailed
from trainer.evaluation import endpoint as module
from trainer.evaluation.endpoint import Endpoint
from trainer.evaluation.judges.endpoint import EndpointJudgeSection
from trainer.evaluation.judges.remote import of_endpoint
from trainer.evaluation.kept import Kept
from trainer.items import Chat, Item

KEY = "sk-not-a-real-key"


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server(lambda text: f"re: {text}") as running:
        yield running


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    monkeypatch.setattr(module.random, "uniform", lambda low, high: 0.0)  # of the time between two tries


def endpoint(server: ChatServer, kept: Path, **more: Any) -> Endpoint:
    section = EndpointSection(url=server.url, model="m", api_key_env="JUDGE_KEY", **more)
    return Endpoint(section, "judge", Kept(kept))


def chats(*texts: str) -> list[Chat]:
    return [[{"role": "user", "content": text}] for text in texts]


def test_replies_are_in_order_and_no_request_is_sent_twice(server: ChatServer, tmp_path: Path) -> None:
    texts = [f"q{number}" for number in range(20)]
    first = endpoint(server, tmp_path)
    assert first.replies(chats(*texts, "q3"), 4, "x") == [*(f"re: {text}" for text in texts), "re: q3"]
    assert first.replies(chats("q5", "new"), 4, "x") == ["re: q5", "re: new"]
    assert endpoint(server, tmp_path).replies(chats(*texts, "new"), 4, "x")[-1] == "re: new"
    assert server.asked == dict.fromkeys([*texts, "new"], 1)
    assert endpoint(server, tmp_path).replies(chats("q5"), 5, "x") == ["re: q5"]  # another request
    assert server.asked["q5"] == 2


def test_what_is_sent(server: ChatServer, tmp_path: Path) -> None:
    endpoint(server, tmp_path).replies(chats("a"), 7, "x")
    more = {"temperature": None, "max_tokens": None, "max_completion_tokens": 9}
    endpoint(server, tmp_path, options=more).replies(chats("a"), 7, "x")
    messages = [{"role": "user", "content": "a"}]
    assert server.bodies == [
        {"model": "m", "messages": messages, "temperature": 0, "max_tokens": 7},
        {"model": "m", "messages": messages, "max_completion_tokens": 9},
    ]
    assert server.keys == {f"Bearer {KEY}"}
    assert not any(KEY in path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def test_as_many_requests_at_a_time_as_it_says_and_no_more(server: ChatServer, tmp_path: Path) -> None:
    together = threading.Barrier(3, timeout=30)  # breaks where three are never under way at once

    def reply(text: str) -> str:
        together.wait()
        return text

    server.reply = reply
    endpoint(server, tmp_path, concurrency=3).replies(chats(*map(str, range(12))), 4, "x")
    assert server.most_at_once == 3


BAD = {
    "too many requests": Answer(429, "{}", {"Retry-After": "0"}),
    "an error of the server's": Answer(500, "oops", content_type="text/plain"),
    "no JSON": Answer(200, "{half"),
    "a web page": Answer(200, "<html>login</html>", content_type="text/html"),
    "no choices": Answer(200, json.dumps({"id": "c", "object": "chat.completion"})),
    "an empty list of choices": Answer(200, json.dumps({"choices": []})),
    "no message": Answer(200, json.dumps({"choices": [{"index": 0}]})),
    "a message that is no text": Answer(200, json.dumps({"choices": [{"message": {"content": [{"type": "image"}]}}]})),
    "a list": Answer(200, "[1]"),
    "nothing": Answer(200, ""),
    "a line that is cut off": Answer(cut_off=True),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_what_goes_wrong_twice_and_then_well_is_no_trouble(server: ChatServer, tmp_path: Path, bad: Answer) -> None:
    server.trouble = lambda text, count: bad if count <= 2 else None
    asked = endpoint(server, tmp_path, retries=2)
    assert asked.replies(chats("a", "b"), 4, "x") == ["re: a", "re: b"]
    assert server.asked == {"a": 3, "b": 3} and asked.facts()["requests_now"] == 2


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_what_goes_wrong_always_ends_it_and_what_went_well_is_kept(server: ChatServer, tmp_path: Path, bad: Answer) -> None:
    server.trouble = lambda text, count: bad if text == "b" else None
    with pytest.raises(StageFailed, match=r"judge: http://127.* gave no answer, asked 3 times: .*same command goes on"):
        endpoint(server, tmp_path, retries=2, concurrency=1).replies(chats("a", "b"), 4, "x")
    server.trouble = lambda text, count: None
    assert endpoint(server, tmp_path).replies(chats("a", "b"), 4, "x") == ["re: a", "re: b"]
    assert server.answered["a"] == 1


def test_a_server_that_is_too_slow_is_asked_again(server: ChatServer, tmp_path: Path) -> None:
    def slow(text: str, count: int) -> None:
        if count == 1:
            time.sleep(0.5)

    server.reply = lambda text: text
    server.trouble = lambda text, count: slow(text, count)
    assert endpoint(server, tmp_path, timeout=0.2).replies(chats("a"), 4, "x") == ["a"]
    assert server.asked["a"] > 1


def test_the_server_says_how_long_to_wait(server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    asked = endpoint(server, tmp_path, retries=4)
    monkeypatch.setattr(asked._stopping, "wait", waited.append)
    monkeypatch.setattr(module.random, "uniform", lambda low, high: high)
    sent = iter(["7", None, "Wed, 21 Oct 2065 07:28:00 GMT", "99999"])

    def busy(text: str, count: int) -> Answer | None:
        return None if count == 5 else Answer(429, headers={} if (value := next(sent)) is None else {"Retry-After": value})

    server.trouble = busy
    assert asked.replies(chats("a"), 4, "x") == ["re: a"]
    assert waited == [7.0, 2.0, 4.0, 120.0]  # after a refusal without a time: doubled


def test_no_server_at_all(tmp_path: Path) -> None:
    section = EndpointSection(url="http://127.0.0.1:9/v1", model="m", api_key_env=None, retries=1)
    with pytest.raises(StageFailed, match="asked 2 times: APIConnectionError"):
        Endpoint(section, "judge", Kept(tmp_path)).replies(chats("a"), 4, "x")


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_model_is_a_mistake_at_once(server: ChatServer, tmp_path: Path, status: int) -> None:
    server.trouble = lambda text, count: Answer(status, '{"error": {"message": "no such model m"}}')
    with pytest.raises(ConfigError, match=rf"judge: .* refuses m: HTTP {status}: .*no such model m"):
        endpoint(server, tmp_path, concurrency=1).replies(chats(*map(str, range(50))), 4, "x")
    assert server.asked.total() <= 2


def test_what_is_on_its_way_when_it_ends_is_kept(server: ChatServer, tmp_path: Path) -> None:
    failed = threading.Event()

    def reply(text: str) -> str:
        assert failed.wait(30)
        time.sleep(0.05)
        return text

    def trouble(text: str, count: int) -> Answer | None:
        if text != "bad":
            return None
        failed.set()
        return Answer(401)

    server.reply, server.trouble = reply, trouble
    with pytest.raises(ConfigError):
        endpoint(server, tmp_path, concurrency=2).replies(chats("good", "bad", *map(str, range(30))), 4, "x")
    assert "good" in [row["text"] for row in Kept(tmp_path).read().values()]
    assert len(Kept(tmp_path).read()) == server.answered.total(), "every answer that was sent is kept"


def test_one_request_that_is_refused_for_what_is_in_it(server: ChatServer, tmp_path: Path) -> None:
    server.trouble = lambda text, count: Answer(400, '{"error": "content policy"}') if text == "b" else None
    asked = endpoint(server, tmp_path)
    assert asked.replies(chats("a", "b"), 4, "x") == ["re: a", '(HTTP 400: {"error": "content policy"})']
    assert server.asked["b"] == 1 and asked.facts()["refused"] == 1
    server.trouble = lambda text, count: None
    assert endpoint(server, tmp_path).replies(chats("b"), 4, "x") == ["re: b"], "it is not kept"


def test_a_reply_without_text_is_a_reply(server: ChatServer, tmp_path: Path) -> None:
    server.trouble = lambda text, count: Answer(200, json.dumps(completion(None)), content_type=JSON)
    assert endpoint(server, tmp_path).replies(chats("a"), 4, "x") == [""]
    assert endpoint(server, tmp_path).replies(chats("a"), 4, "x") == [""] and server.asked["a"] == 1


def test_tokens_and_costs(server: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prices = {"price_in": 2.0, "price_out": 10.0}
    endpoint(server, tmp_path, **prices).replies(chats("a" * 400, "b" * 400), 50, "x")
    later = endpoint(server, tmp_path, **prices)
    later.announce([(chats("a" * 400, "b" * 400, "c" * 400, "d" * 400), 50)])
    expected = (
        f"judge: m at {server.url}: at most 2 requests (2 are kept), about 200 tokens of prompts and at most 100 of replies: "
    )
    assert capsys.readouterr().out == f"{expected}at most about $0.00\n"
    later.replies(chats("a" * 400, "b" * 400, "c" * 400, "d" * 400), 50, "x")
    assert later.facts() == {
        "model": "m", "requests": 4, "refused": 0, "prompt_tokens": 40, "completion_tokens": 8, "requests_now": 2,
        "dollars_now": pytest.approx((20 * 2 + 4 * 10) / 1e6),
    }  # fmt: skip
    free = endpoint(server, tmp_path)
    free.announce([(chats("e"), 50)])
    assert "no costs known (price_in, price_out)" in capsys.readouterr().out and free.facts()["dollars_now"] is None


def test_the_judge_asks_by_questions_and_rates_only_what_addresses(
    server: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def reply(text: str) -> str:
        if "YES or NO" in text:
            return "NO" if "sorry" in text else "YES"
        return "RISKS: Violence" if "RISKS" in text else "RATING: 4" if "RATING" in text else "?"

    server.reply = reply
    section = EndpointJudgeSection(name="endpoint", url=server.url, model="m", api_key_env="JUDGE_KEY")
    judge = of_endpoint(section, "judge", stage_here(tmp_path))
    items = [Item(f"a/{number}", "attack", f"p{number}") for number in range(3)]
    verdicts = judge(items, ["here", "sorry", "there"])
    assert [verdict.judgement.rating for verdict in verdicts if verdict.judgement] == [4, 0, 4]
    assert server.asked.total() == 3 + 3 + 2
    assert "at most 9 requests (0 are kept)" in capsys.readouterr().out
    assert judge.facts()["requests"] == 8
    again = of_endpoint(section, "judge", stage_here(tmp_path))
    assert again(items, ["here", "sorry", "there"]) == verdicts and server.asked.total() == 8
