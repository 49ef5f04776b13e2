"""Stand between a client and a Docker engine, and let requests fail as engines and networks do."""

from __future__ import annotations

import json
import re
import select
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from support.engine import Engine

Fault = Callable[[socket.socket, Callable[[], socket.socket]], None]
"""What to do with a client. The function sends its request to the engine, and returns that connection."""


@dataclass
class Proxy:
    """An engine's stand-in, at an address of its own."""

    url: str
    faults: list[tuple[re.Pattern[str], Fault, list[int]]] = field(default_factory=list)

    def fail(self, request: str, fault: Fault, times: int = 10**9) -> None:
        """Let requests fail whose first line a pattern matches, so many times."""
        self.faults.append((re.compile(request), fault, [times]))

    def fault_of(self, line: str) -> Fault:
        """Return what to do with a request; most are passed on."""
        for pattern, fault, left in self.faults:
            if left[0] and pattern.search(line):
                left[0] -= 1
                return fault
        return pass_on


def pass_on(client: socket.socket, send: Callable[[], socket.socket]) -> None:
    """Pass on what both send until one ends."""
    engine = send()
    other = {client: engine, engine: client}
    while other:
        for ready in select.select(list(other), [], [])[0]:
            data = ready.recv(65_536)
            if data:
                other[ready].sendall(data)
            else:
                with suppress(OSError):
                    other[ready].shutdown(socket.SHUT_WR)
                if ready is engine:
                    return
                del other[ready]


def answer(status: int, message: str) -> Fault:
    """Answer with an error in place of the engine, which never sees the request."""

    def fault(client: socket.socket, _send: Callable[[], socket.socket]) -> None:
        body = json.dumps({"message": message}).encode()
        head = [f"HTTP/1.1 {status} Fault", "Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close"]
        client.sendall("\r\n".join([*head, "", ""]).encode() + body)

    return fault


def cut_after(chunks: int, *, stall: bool = False) -> Fault:
    """Pass on so many pieces of the answer, then end the connection, or keep it silent until the client ends it."""

    def fault(client: socket.socket, send: Callable[[], socket.socket]) -> None:
        engine = send()
        for _ in range(chunks):
            client.sendall(engine.recv(65_536))
        if stall:
            while client.recv(65_536):
                pass

    return fault


@contextmanager
def in_front_of(engine: Engine) -> Iterator[Proxy]:
    """Run a proxy in front of an engine."""
    with tempfile.TemporaryDirectory(prefix="callstats-proxy-") as folder, socket.socket(socket.AF_UNIX) as server:
        path = Path(folder) / "sock"
        server.bind(str(path))
        server.listen()
        proxy = Proxy(f"unix://{path}")
        threading.Thread(target=_serve, args=(server, proxy, engine), daemon=True).start()
        yield proxy
        server.shutdown(socket.SHUT_RDWR)


def _serve(server: socket.socket, proxy: Proxy, engine: Engine) -> None:
    with suppress(OSError):
        while True:
            client = server.accept()[0]
            threading.Thread(target=_handle, args=(client, proxy, engine), daemon=True).start()


def _handle(client: socket.socket, proxy: Proxy, engine: Engine) -> None:
    with client, socket.socket(socket.AF_UNIX) as upstream, suppress(OSError):
        request = b""
        while b"\r\n\r\n" not in request:
            chunk = client.recv(65_536)
            if not chunk:
                return
            request += chunk
        line, _, rest = request.partition(b"\r\n")
        if b"upgrade:" not in request.lower():  # each request is on a connection of its own, or the next would be missed
            rest = b"Connection: close\r\n" + re.sub(rb"(?im)^connection:.*\r\n", b"", rest)

        def send() -> socket.socket:
            upstream.connect(engine.url.removeprefix("unix://"))
            upstream.sendall(line + b"\r\n" + rest)
            return upstream

        proxy.fault_of(line.decode())(client, send)
