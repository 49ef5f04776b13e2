"""A Docker engine as a test says it is: one container, of which each answer, frame and piece of output is known."""

from __future__ import annotations

import json
import socketserver
import struct
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

CONTAINER = "c0ffee" + 58 * "0"
OK: dict[str, tuple[int, Any]] = {
    "GET version": (200, {"ApiVersion": "1.44"}),
    "GET list": (200, []),
    "GET image": (200, {}),
    "POST create": (201, {"Id": CONTAINER, "Warnings": []}),
}
"""What an engine answers, unless it is 204 and no more."""


@dataclass
class ScriptedEngine:
    """What the engine says, and what it was asked: each request's name, such as ``POST kill``, with its parameters and body."""

    url: str
    pulled: list[dict[str, str]] = field(default_factory=list)
    """The progress of a pull."""
    frames: list[dict[str, Any]] = field(default_factory=list)
    """What the first stream of samples has; others have nothing."""
    output: list[tuple[int, bytes]] = field(default_factory=list)
    """Pieces of output, each with the number of its stream."""
    input: bytes = b""
    state: dict[str, Any] = field(default_factory=lambda: {"Pid": 0, "FinishedAt": "2026-01-01T00:00:09Z"})
    code: int = 0
    asked: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    """Whether the container has ended. A kill ends it too."""
    started: threading.Event = field(default_factory=threading.Event)
    heard: threading.Event = field(default_factory=threading.Event)
    """Whether all of its input was read."""
    answers: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)
    """The next answers to a request: status and body. With status 0 the connection breaks."""

    def fail(self, request: str, status: int, message: str, times: int = 1) -> None:
        """Answer a request with an error, so many times."""
        self.answers.setdefault(request, []).extend([(status, {"message": message})] * times)

    def answer(self, request: str) -> tuple[int, Any]:
        """Return the status and the body of a plain answer."""
        if self.answers.get(request):
            return self.answers[request].pop(0)
        if request == "POST start":
            self.started.set()
        if request == "POST kill":
            self.code = self.code or 137
            self.ended.set()
        if request == "GET inspect":
            return 200, {"Id": CONTAINER, "Created": "2026-01-01T00:00:00Z", "State": self.state}
        return OK.get(request, (204, None))

    def names(self) -> list[str]:
        """Return the requests' names, in order."""
        return [name for name, _, _ in self.asked]

    def params(self, name: str) -> list[dict[str, str]]:
        """Return the parameters of each request of that name."""
        return [params for asked, params, _ in self.asked if asked == name]

    def body(self, name: str) -> Any:
        """Return what the last request of that name has sent."""
        return [body for asked, _, body in self.asked if asked == name][-1]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine: ScriptedEngine

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        engine, url = self.engine, urlsplit(self.path)
        name = f"{self.command} {_name(url.path.split('/'))}"
        params = dict(parse_qsl(url.query))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        engine.asked.append((name, params, json.loads(body) if body else None))
        with suppress(OSError):  # the client has gone
            if name in ("POST attach", "GET stats", "POST pull", "POST wait") and not engine.answers.get(name):
                self.close_connection = True
                getattr(self, f"_{name.split()[1]}")(params)
            else:
                status, answer = engine.answer(name)
                if not status:
                    self.close_connection = True
                    return
                self._head(status, b"" if answer is None else json.dumps(answer).encode())

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - their names in http.server

    def _head(self, status: int, body: bytes | None = None, **headers: str) -> None:
        self.send_response(status)
        headers |= {} if body is None else {"Content-Type": "application/json", "Content-Length": str(len(body))}
        for header, value in headers.items():
            self.send_header(header.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body or b"")

    def _attach(self, params: dict[str, str]) -> None:
        self._head(101, Connection="Upgrade", Upgrade="tcp")
        if "stdin" in params:
            while chunk := self.connection.recv(65_536):
                self.engine.input += chunk
            self.engine.heard.set()
            return
        self.engine.started.wait()
        for stream, data in self.engine.output:
            self.wfile.write(struct.pack(">BxxxL", stream, len(data)) + data)
        self.engine.ended.wait()

    def _stats(self, _params: dict[str, str]) -> None:
        frames, self.engine.frames = self.engine.frames, []
        self._lines(frames)
        self.engine.ended.wait()
        self.wfile.write(b"0\r\n\r\n")

    def _pull(self, _params: dict[str, str]) -> None:
        self._lines(self.engine.pulled)
        self.wfile.write(b"0\r\n\r\n")

    def _lines(self, lines: list[dict[str, Any]]) -> None:
        self._head(200, Content_Type="application/json", Transfer_Encoding="chunked")
        for line in lines:
            text = json.dumps(line).encode() + b"\r\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))

    def _wait(self, _params: dict[str, str]) -> None:
        self.engine.ended.wait()
        self._head(200, json.dumps({"StatusCode": self.engine.code}).encode())


def _name(parts: list[str]) -> str:
    """Return what a path asks for."""
    if parts[-2:] == ["containers", "json"]:
        return "list"
    if parts[-2:] == ["images", "create"]:
        return "pull"
    if "images" in parts:
        return "image"
    if parts[-1] == "json":
        return "inspect"
    return "container" if parts[-2] == "containers" and parts[-1] != "create" else parts[-1]


@contextmanager
def scripted_engine() -> Iterator[ScriptedEngine]:
    """Run such an engine, at an address of its own."""
    with tempfile.TemporaryDirectory(prefix="callstats-engine-") as folder:
        path = Path(folder) / "sock"
        engine = ScriptedEngine(f"unix://{path}")
        handler = type("Handler", (_Handler,), {"engine": engine})
        with socketserver.ThreadingUnixStreamServer(str(path), handler) as server:  # type: ignore[arg-type]
            server.daemon_threads, server.block_on_close = True, False
            thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
            thread.start()
            try:
                yield engine
            finally:
                engine.ended.set()
                engine.started.set()
                server.shutdown()
                thread.join()
