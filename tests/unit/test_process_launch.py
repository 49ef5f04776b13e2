"""How a command is started: by a small shell, where that runs it just as it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import time_ns
from types import SimpleNamespace
from typing import Any

import pytest

from callstats.drivers.process import launch, procfs
from callstats.drivers.process.launch import Launched
from callstats.drivers.process.tree import subreaper

pytestmark = pytest.mark.skipif(not procfs._LINUX, reason="reads /proc")

PATH = {"PATH": os.environ["PATH"]}


def suits(*command: str, work_dir: str = "", **env: str) -> bool:
    return launch._suits_a_shell(command, {**PATH, **env}, work_dir)


def test_what_suits_a_shell() -> None:
    """A program that it finds as `Popen` does, with variables and arguments that it keeps."""
    assert suits("true") and suits("/bin/sh", "-c", "x") and suits("true", A="b c", _x1="")
    assert not suits("") and not suits("-true") and not suits("no-such-program") and not suits("/no/such")
    assert not suits("true", "a\0b")
    assert not suits("true", **{"A.B": "1"}) and not suits("true", **{"1A": "1"}) and not suits("true", **{"A\n": "1"})


def test_the_size_of_the_arguments() -> None:
    """All words count, up to 64 KiB."""
    assert suits("true", "x" * 30_000, "x" * (65_536 - 30_004))
    assert not suits("true", "x" * 30_000, "x" * (65_537 - 30_004))


@pytest.mark.parametrize("path", ["", "bin:/bin", "/bin:", ".:/bin"])
def test_a_path_that_depends_on_the_folder(path: str) -> None:
    """A shell looks for a bare name there; a name with a folder needs no PATH."""
    assert not suits("true", PATH=path)
    assert suits("/bin/sh", PATH=path)
    assert not launch._suits_a_shell(["true"], {}, "")


def test_a_program_below_the_working_directory(tmp_path: Path) -> None:
    """It is looked for from there."""
    program = tmp_path / "folder" / "tool"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    assert not suits("folder/tool", work_dir=str(tmp_path))
    program.chmod(0o755)
    assert suits("folder/tool", work_dir=str(tmp_path))
    assert not suits("folder/tool", work_dir=str(tmp_path / "folder"))


def test_what_the_kernel_runs(tmp_path: Path) -> None:
    """A file of this machine's kind, or a script of one; a shell would run other text too, and a script of a script."""
    own, file, script = Path(sys.executable).read_bytes()[:64], tmp_path / "file", tmp_path / "script"
    script.write_text("#!/bin/sh\n")

    def runs(text: bytes) -> bool:
        file.write_bytes(text)
        return launch._is_program(str(file))

    assert runs(own) and runs(own[:20] + bytes(44))
    for at in (4, 5, 18, 19):  # word size, byte order, machine
        assert not runs(own[:at] + bytes([own[at] ^ 0x40]) + own[at + 1 :])
    assert runs(b"#!/bin/sh\n/no/such") and runs(b"#! /bin/sh -e\n") and runs(b"#!/bin/sh")
    assert not runs(b"#!" + os.fsencode(script)) and not runs(b"#!/no/such\n")
    for text in (b"", b"#!", b"#!\n/bin/sh", b"echo /bin/sh\n", b"  /bin/sh\n", b"MZ"):
        assert not runs(text)
    assert not launch._is_program(str(tmp_path / "none")) and not launch._is_program(str(tmp_path))


def test_a_long_first_line(tmp_path: Path) -> None:
    """The kernel reads 255 bytes of it, and runs no script with more."""
    for size, runs_it in ((254, True), (255, True), (256, False), (257, False)):
        script = tmp_path / "script"
        script.write_bytes(b"#!" + (size - 8) * b"/" + b"bin/sh\n")
        assert launch._is_program(str(script)) is runs_it


def launched(*command: str, **env: str) -> Launched:
    """Start a command whose output is a pipe."""
    pipe = subprocess.PIPE
    return launch.launch(command, {**PATH, **env}, "", stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.DEVNULL)


def ended(command: Launched) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(command.pid, 0)[1])


def test_a_command_waits_for_its_start() -> None:
    """It is a child in a group of its own, with all its output; it gets our pipes' end if we are gone before."""
    with subreaper():
        command = launched("sh", "-c", "echo $A; exit 3", A="b")
        process = procfs.read_process(command.pid)
        assert process is not None and (process.parent, process.group) == (os.getpid(), command.pid)
        assert 0 < command.floor < 16 * 2**20
        pipes = list(command._pipes)
        assert len(pipes) == 4 and command.stdin is None and command.stderr is None
        launched_at = time_ns()
        command.go()
        began_at = command.began_at
        command.go()
        assert launched_at <= began_at == command.began_at <= time_ns()  # the launch is no part of the command
        assert command.stdout is not None and command.stdout.read() == b"b\n"
        command.stdout.close()
        assert ended(command) == 3
        for number in pipes:
            with pytest.raises(OSError, match="Bad file"):
                os.fstat(number)
        never = launched("sh", "-c", "echo started")
        never.close()
        assert never.stdout is not None and never.stdout.read() == b""
        never.stdout.close()
        ended(never)


def test_the_shell_s_own_variables() -> None:
    """PWD, OLDPWD and SHLVL are what the caller gives, or nothing."""
    with subreaper():
        for env in ({}, {"PWD": "/x y", "OLDPWD": "/o", "SHLVL": "7"}):
            command = launched("env", **env)
            command.go()
            assert command.stdout is not None
            assert set(command.stdout.read().decode().splitlines()) == {f"{name}={value}" for name, value in (PATH | env).items()}
            command.stdout.close()
            assert ended(command) == 0


@pytest.mark.parametrize("failing", ["_read_number", "read_process", "read_status", "setpgid"])
def test_a_shell_that_fails(monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    """Then the command is started without it, and has a floor as large as this process; nothing of the shell is left."""
    real, calls = launch.read_status, list[int]()

    def fail(*arguments: Any) -> None:
        calls.append(1)
        if failing in ("_read_number", "setpgid"):
            raise OSError("failed")

    def read_status(pid: int) -> procfs.MemoryStatus | None:
        return fail() if pid != os.getpid() else real(pid)

    if failing == "read_status":
        monkeypatch.setattr(launch, failing, read_status)
    else:
        monkeypatch.setattr(os if failing == "setpgid" else launch, failing, fail)
    popens: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            popens.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    with subreaper():
        command = launched("sh", "-c", "echo x; exit 4")
        command.go()
        own = real(os.getpid())
        assert own is not None and 0.5 * own.peak < command.floor <= own.peak
        assert command.stdout is not None and command.stdout.read() == b"x\n"
        command.stdout.close()
        assert calls and command.pid == popens[1].pid and popens[0].returncode == -signal.SIGKILL
        code = ended(command)
        command.forget(code)
        assert popens[1].returncode == code == 4
        with suppress(ChildProcessError):  # what the failed shell has left
            while os.waitpid(-popens[0].pid, 0):
                pass


def test_a_size_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another system the command's peak begins with nothing that is known."""
    monkeypatch.setattr(launch, "_suits_a_shell", lambda *_: False)
    monkeypatch.setattr(launch, "read_status", lambda _pid: None)
    before = time_ns()
    command = launched("true")
    began_at = command.began_at
    command.go()
    assert before <= began_at == command.began_at <= time_ns()
    assert command.floor == 0 and command.stdout is not None
    command.stdout.close()
    code = ended(command)
    command.forget(code)
    assert code == 0


@pytest.mark.parametrize(("pid", "code", "returncode"), [(5, 3, 3), (5, -9, -9), (5, None, 0), (6, 3, None)])
def test_popen_must_not_wait(pid: int, code: int | None, returncode: int | None) -> None:
    """It learns of the end of its own process, and of no other one."""
    popen: Any = SimpleNamespace(pid=5, returncode=None, stdin=1, stdout=2, stderr=3)
    command = Launched(popen, pid, 7, 0)
    assert (command.pid, command.floor, command.stdin, command.stdout, command.stderr) == (pid, 7, 1, 2, 3)
    command.forget(code)
    assert popen.returncode == returncode
