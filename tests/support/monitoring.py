"""A real Prometheus on a folder and a loopback port of its own, stopped again by its process id."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from support.engine import end, unavailable, until

Values = dict[str, float]

PATIENCE = 30.0
"""Max seconds for an answer, on a busy machine. Other tests have no psutil, which `support.programs` needs."""


class Prometheus:
    """A running server, asked by its HTTP API."""

    def __init__(self, address: str) -> None:
        self.url = f"http://{address}"

    def query(self, expression: str, label: str = "name", time: float | None = None) -> Values:
        """The value of each series by one of its labels."""
        parameters = {"query": expression} | ({} if time is None else {"time": str(time)})
        found = self._get(f"/api/v1/query?{urlencode(parameters)}")["result"]
        return {one["metric"].get(label, ""): float(one["value"][1]) for one in found}

    def samples(self, selector: str, time: float, window: str) -> list[list[tuple[float, float]]]:
        """Times and values of each series, as they are stored."""
        found = self._get(f"/api/v1/query?{urlencode({'query': f'{selector}[{window}]', 'time': str(time)})}")["result"]
        return [[(float(at), float(value)) for at, value in one["values"]] for one in found]

    def wait_for(self, expression: str, label: str = "name") -> Values:
        """The answer once there is one."""
        deadline = monotonic() + PATIENCE
        while not (found := self.query(expression, label)):
            assert monotonic() < deadline, expression
            sleep(0.05)
        return found

    def families(self, prefix: str) -> dict[str, tuple[str, str]]:
        """Type and help of the metrics that were scraped, by name."""
        found = self._get("/api/v1/metadata")
        return {name: (one[0]["type"], one[0]["help"]) for name, one in found.items() if name.startswith(prefix)}

    def _get(self, path: str) -> Any:
        with urlopen(self.url + path, timeout=PATIENCE) as answer:
            return json.load(answer)["data"]


def need_prometheus() -> None:
    """Skip without Debian's package, or fail where servers are required."""
    if missing := [program for program in ("prometheus", "promtool") if shutil.which(program) is None]:
        unavailable(f"needs {', '.join(missing)}: apt-get install prometheus")


def promtool(*arguments: str | Path, data: bytes | None = None) -> str:
    """Run promtool, which must find no fault, and return what it prints."""
    need_prometheus()
    done = subprocess.run(["promtool", *arguments], input=data, capture_output=True, timeout=10 * PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode()
    return done.stdout.decode()


@contextmanager
def running_prometheus(folder: Path, targets: Sequence[str] = ()) -> Iterator[Prometheus]:
    """Run a server over the blocks of a folder, which scrapes targets twice a second."""
    need_prometheus()
    scrapes = [{"job_name": "callstats", "scrape_interval": "500ms", "scrape_timeout": "500ms"}] if targets else []
    for scrape in scrapes:
        scrape["static_configs"] = [{"targets": [*targets]}]  # type: ignore[assignment]
    (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": scrapes}))  # JSON is YAML
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        *("prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"),
        *("--storage.tsdb.retention.time=100y", f"--web.listen-address={address}", "--log.level=warn"),
    ]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        if not until(lambda: urlopen(f"http://{address}/-/ready").close() is None, server):
            unavailable(f"prometheus does not run here: {(folder / 'log').read_text(errors='replace')[-500:]}")
        yield Prometheus(address)
    finally:
        end(server)


@pytest.fixture
def prometheus(tmp_path: Path) -> Callable[..., AbstractContextManager[Prometheus]]:
    """How to run a server over the test's folder; it takes the addresses of targets."""
    need_prometheus()
    return partial(running_prometheus, tmp_path)
