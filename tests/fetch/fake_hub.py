"""A server that speaks as much of the hub's language as downloading a repository takes."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_LFS_FROM = 10_000  # bytes: smaller files are in git


@dataclass
class FakeHub:
    """Attributes:
    repositories: `models/OWNER/NAME` or `datasets/OWNER/NAME` -> path -> content.
    licences, gated: of repositories.
    cut: how many bytes of a file are sent before the connection breaks, once.
    spoilt: files whose content is sent spoilt.
    asked: method, path and range of every request.
    """

    url: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    licences: dict[str, str] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    cut: dict[str, int] = field(default_factory=dict)
    spoilt: set[str] = field(default_factory=set)
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, name: str, files: dict[str, bytes], licence: str = "mit") -> None:
        self.repositories[name], self.licences[name] = files, licence

    def add_folder(self, name: str, folder: Path, licence: str = "mit") -> None:
        self.add(name, {file.name: file.read_bytes() for file in folder.iterdir()}, licence)

    def commit(self, name: str) -> str:
        listed = {path: hashlib.sha1(content).hexdigest() for path, content in self.repositories[name].items()}
        return hashlib.sha1(json.dumps(listed, sort_keys=True).encode()).hexdigest()

    def downloads(self) -> list[tuple[str, str]]:
        """File and range of all that was sent."""
        sent = [(path, wanted) for method, path, wanted in self.asked if method == "GET" and "/resolve/" in path]
        return [(path.rpartition("/")[2], wanted) for path, wanted in sent]


def spoil(content: bytes) -> bytes:
    """Of the same length."""
    return content[:-1] + bytes([content[-1] ^ 1])


def facts(path: str, content: bytes) -> dict[str, Any]:
    """Of a file, as the hub's two lists of files have them."""
    oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    found: dict[str, Any] = {"rfilename": path, "path": path, "type": "file", "size": len(content), "oid": oid, "blobId": oid}
    if len(content) >= _LFS_FROM:
        sha = hashlib.sha256(content).hexdigest()
        found["lfs"] = {"oid": sha, "sha256": sha, "size": len(content), "pointerSize": 130}
    return found


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append((self.command, path, self.headers.get("Range", "")))
            if path.startswith("/api/"):
                return self.api(path.removeprefix("/api/"))
            named, _, rest = path.removeprefix("/").partition("/resolve/")
            repository = named if named.startswith("datasets/") else f"models/{named}"
            if repository not in hub.repositories:
                return self.send(404, b"", {"X-Error-Code": "RepoNotFound"})
            file = rest.partition("/")[2]
            if file not in (files := hub.repositories[repository]):
                return self.send(404, b"", {"X-Error-Code": "EntryNotFound"})
            self.content(repository, file, files[file], body)

        def api(self, path: str) -> None:
            named = next((name for name in hub.repositories if path == name or path.startswith(f"{name}/")), None)
            if named is None:
                return self.send(404, b"", {"X-Error-Code": "RepoNotFound"})
            if named in hub.gated:
                return self.send(403, b"", {"X-Error-Code": "GatedRepo"})
            what, _, rest = path.removeprefix(named).strip("/").partition("/")
            if what == "revision" and rest.partition("/")[0] not in ("main", hub.commit(named)):
                return self.send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            files = [facts(path, content) for path, content in hub.repositories[named].items()]
            info = {
                "id": named.partition("/")[2], "sha": hub.commit(named), "siblings": files, "private": False,
                "cardData": {"license": hub.licences[named]}, "tags": [], "downloads": 0, "likes": 0,
            }  # fmt: skip
            self.send(200, json.dumps(files if what == "tree" else info).encode(), {"Content-Type": "application/json"})

        def content(self, repository: str, file: str, content: bytes, body: bool) -> None:
            listed = facts(file, content)
            headers = {
                "X-Repo-Commit": hub.commit(repository), "Accept-Ranges": "bytes", "ETag": f'"{listed["oid"]}"',
            }  # fmt: skip
            if "lfs" in listed:
                headers |= {"X-Linked-ETag": f'"{listed["lfs"]["oid"]}"', "X-Linked-Size": str(len(content))}
            if file in hub.spoilt:
                content = spoil(content)
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send(206 if start else 200, content[start:], headers, body, hub.cut.pop(file, None) if body else None)

        def send(self, status: int, content: bytes, headers: dict[str, str], body: bool = True, cut: int | None = None) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body and self.command == "GET":
                self.wfile.write(content[:cut])
            if cut is not None:
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
