"""A W&B server small enough to read: it keeps what the real client sends, and answers as the real one would.

Only what `wandb sync` asks: who am I, is there a run of this id and how long is its history, make a run, take its files
and its history. History is a file of lines, and the client says at which line its part begins, as on the real server.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeWandb:
    """Attributes: history maps a run's id to its lines; refuses: answer every new run with HTTP 403."""

    def __init__(self) -> None:
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.refuses = False
        self.url = ""

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        project = {"id": "p", "name": "keel", "entity": {"id": "e", "name": "tester"}}
        if "upsertBucket" in query:
            known = variables["name"] in self.history
            self.history.setdefault(variables["name"], [])
            bucket = {"id": "aWQ=", "name": variables["name"], "displayName": variables["name"], "project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": not known}}
        if "createRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.url}/upload"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "aWQ=", "uploadHeaders": [], "files": files}}
        if "RunResumeStatus" in query:
            return {"model": {**project, "bucket": self._resume_status(variables["name"])}}
        viewer = {"id": "v", "entity": "tester", "username": "tester", "flags": "{}", "teams": {"edges": []}}
        return {"viewer": viewer, "serverInfo": {"cliVersionInfo": {"max_cli_version": "9"}}}

    def _resume_status(self, run: str) -> dict[str, Any] | None:
        lines = self.history.get(run)
        if not lines:
            return None
        tail = json.dumps([json.dumps(lines[-1])])
        counts = {"logLineCount": 0, "historyLineCount": len(lines), "eventsLineCount": 0}
        texts = {"summaryMetrics": json.dumps(lines[-1]), "historyTail": tail, "eventsTail": "[]", "config": "{}"}
        return {
            "id": "aWQ=",
            "name": run,
            "displayName": run,
            "tags": [],
            "notes": "",
            "wandbConfig": '{"t": 1}',
            **counts,
            **texts,
        }

    def take(self, run: str, sent: dict[str, Any]) -> None:
        part = sent.get("files", {}).get("wandb-history.jsonl")
        if part is not None:
            lines = self.history.setdefault(run, [])
            lines[part["offset"] :] = [json.loads(line) for line in part["content"]]


@contextmanager
def fake_wandb() -> Iterator[FakeWandb]:
    server = FakeWandb()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def _respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            status, answer = 200, {}
            if self.path == "/graphql":
                asked = json.loads(body)
                if server.refuses and "upsertBucket" in asked["query"]:
                    status, answer = 403, {"errors": [{"message": "permission denied"}]}
                else:
                    answer = {"data": server.answer(asked["query"], asked["variables"])}
            elif stream := re.match(r"/files/tester/keel/(\w+)/file_stream", self.path):
                server.take(stream.group(1), json.loads(body))
            payload = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_POST = do_PUT = _respond

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
