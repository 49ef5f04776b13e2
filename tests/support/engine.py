"""Start a real Docker engine and a real registry for the tests, in private folders, and stop them again."""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import NoReturn
from urllib.request import urlopen

import pytest

PROGRAMS = ("sh", "cat", "dd", "echo", "env", "false", "head", "kill", "ls", "mkdir", "pwd", "sleep", "tail", "true")
IMAGE = "callstats-test:busybox"


@dataclass(frozen=True)
class Engine:
    """The address of an engine, its folder, and its image."""

    url: str
    folder: Path
    image: str = IMAGE

    def signal(self, number: int) -> None:
        """Send a signal to the engine."""
        os.kill(int((self.folder / "pid").read_text()), number)

    def docker(self, *args: str, data: bytes | None = None) -> str:
        """Run the engine's own command, apart from the tested code."""
        done = subprocess.run(["docker", "-H", self.url, *args], input=data, capture_output=True, check=True)
        return done.stdout.decode()

    def containers(self) -> list[str]:
        """Return the names of all containers."""
        return self.docker("ps", "--all", "--format", "{{.Names}}").split()


def unavailable(reason: str) -> NoReturn:
    """Skip a test that needs a server, or fail where servers are required."""
    if os.environ.get("CALLSTATS_REQUIRE_SERVERS") == "1":
        pytest.fail(f"{reason}, and CALLSTATS_REQUIRE_SERVERS=1 asks for it")
    pytest.skip(reason)


def need(*programs: str, packages: str) -> None:
    """Skip without these programs, with the way to install them."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        unavailable(f"needs {', '.join(missing)}: apt-get install {packages}")
    if os.geteuid() != 0:
        unavailable("needs root, to start an engine of its own")


@contextmanager
def running_engine() -> Iterator[Engine]:
    """Run an engine without a bridge or firewall rules."""
    need("dockerd", "docker", "busybox", packages="docker.io busybox-static")
    folder = Path(tempfile.mkdtemp(prefix="callstats-engine-"))  # short: a socket's path holds 107 characters
    engine = Engine(f"unix://{folder / 'sock'}", folder)
    command = [
        *("dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none", "-H", engine.url),
        *("--data-root", str(folder / "data"), "--exec-root", str(folder / "exec"), "--pidfile", str(folder / "pid")),
    ]
    with (folder / "log").open("wb") as log:
        env = os.environ | {"GOGC": "800"}  # less collecting of garbage in all programs that a container starts by
        server = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env)
    try:
        if not until(lambda: answers(engine), server):
            lines = (folder / "log").read_text(errors="replace").splitlines()
            unavailable(f"dockerd does not run here: {lines[-1] if lines else 'it said nothing'}")
        engine.docker("import", "-", IMAGE, data=image_tar())
        yield engine
    finally:
        end(server)
        for process in processes_of(folder):  # a killed engine leaves the parents of its containers
            os.kill(process, signal.SIGKILL)
        for mount in sorted(mounts_below(folder), reverse=True):
            subprocess.run(["umount", "-l", mount], check=False)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_registry() -> Iterator[str]:
    """Run a registry on a loopback port, and yield its host and port."""
    need("docker-registry", packages="docker-registry")
    folder = Path(tempfile.mkdtemp(prefix="callstats-registry-"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    storage = f"{{filesystem: {{rootdirectory: {folder / 'data'}}}}}"
    (folder / "config.yml").write_text(f"version: 0.1\nlog: {{level: error}}\nstorage: {storage}\nhttp: {{addr: '{address}'}}\n")
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        if not until(lambda: urlopen(f"http://{address}/v2/").close() is None, server):
            unavailable("docker-registry does not run here")
        yield address
    finally:
        end(server)
        shutil.rmtree(folder, ignore_errors=True)


def until(works: object, server: subprocess.Popen[bytes], seconds: float = 60) -> bool:
    """Wait until a server answers. Return False when it has ended, or takes too long."""
    deadline = monotonic() + seconds
    while server.poll() is None and monotonic() < deadline:
        try:
            if works():  # type: ignore[operator]
                return True
        except OSError:
            pass
        sleep(0.05)
    return False


def end(server: subprocess.Popen[bytes]) -> None:
    """End a server, by force if necessary."""
    server.terminate()
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def answers(engine: Engine) -> bool:
    """Return whether the engine listens."""
    return subprocess.run(["docker", "-H", engine.url, "version"], capture_output=True, check=False).returncode == 0


def image_tar() -> bytes:
    """Return the root folder of an image: busybox under the names of its programs."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name in ("bin", "etc", "tmp", "usr"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
        tar.add(str(shutil.which("busybox")), "bin/busybox")
        for name in PROGRAMS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return data.getvalue()


def mounts_below(folder: Path) -> list[str]:
    """Return the mount points in a folder."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [point for line in lines if (point := line.split()[1]).startswith(f"{folder}/")]


def processes_of(folder: Path) -> list[int]:
    """Return the processes whose command line names a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if f"{folder}/".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


@pytest.fixture
def private_engine() -> Iterator[Engine]:
    """Run an engine for one test, which may kill it."""
    with running_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Run an engine for all tests."""
    with running_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def registry() -> Iterator[str]:
    """Run a registry for all tests."""
    with running_registry() as address:
        yield address
