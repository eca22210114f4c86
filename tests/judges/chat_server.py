"""A real HTTP server on loopback that speaks as much of the chat protocol as a judge needs, and does wrong what it is told to.

It stands for a provider: it writes down every request that it answers, which is what would be on the bill.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JSON = "application/json"


@dataclass(frozen=True)
class Answer:
    """What is sent in place of a completion. body: as it goes over the wire."""

    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = JSON
    cut_off: bool = False


@dataclass
class ChatServer:
    """Attributes:
    url: where its API begins.
    answered: text of the last turn -> how often it was answered with a completion that left the house: what would be paid.
    trouble: asked before each answer (text, how often it was asked): what to send in place of it, or None.
    reply: the text of a completion.
    held: while it is clear, whoever asks waits.
    """

    url: str
    reply: Callable[[str], str]
    trouble: Callable[[str, int], Answer | None] = lambda text, count: None
    answered: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    most_at_once: int = 0
    hold_after: int | None = None
    given_up: int = 0

    def __post_init__(self) -> None:
        self.lock, self._now = threading.Lock(), 0
        self.released = threading.Event()

    def take(self, text: str, body: dict[str, Any], key: str) -> Answer:
        with self.lock:
            self.asked[text] += 1
            self.bodies.append(body)
            self.keys.add(key)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            trouble = self.trouble(text, self.asked[text])
        return trouble or Answer(body=json.dumps(completion(self.reply(text))))

    def done(self) -> None:
        with self.lock:
            self._now -= 1

    def holds(self) -> bool:
        """Whether this request is one of those that get no answer while the server is held."""
        with self.lock:
            return self.hold_after is not None and self.answered.total() >= self.hold_after


def completion(text: str | None) -> dict[str, Any]:
    return {
        "id": "c", "object": "chat.completion", "created": 0, "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
    }  # fmt: skip


@contextmanager
def chat_server(reply: Callable[[str], str]) -> Iterator[ChatServer]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = body["messages"][-1]["content"]
            try:
                answer = server.take(text, body, self.headers["Authorization"])
                if answer.cut_off or self._was_held():
                    self.close_connection = True
                    return
                if answer.status == 200 and answer.content_type == JSON and '"choices"' in answer.body:
                    with server.lock:
                        server.answered[text] += 1
                data = answer.body.encode()
                self.send_response(answer.status)
                for name, value in {"Content-Type": answer.content_type, **answer.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            finally:
                server.done()

        def _was_held(self) -> bool:
            """Waits where the server is held, as one that computes; whoever hangs up meanwhile is answered nothing."""
            if not server.holds():
                return False
            server.released.wait()
            with server.lock:
                server.given_up += 1
            return True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server = ChatServer(f"http://127.0.0.1:{http.server_port}/v1", reply)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        http.shutdown()
        http.server_close()
