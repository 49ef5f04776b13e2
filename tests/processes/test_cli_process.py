"""The command as a program: pipes, signals, missing packages, and the demo from its start to its end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from support.database import ask, blob, cells, made
from support.programs import FOR_EVER, IN_THE_THIRD, PATIENCE, TELLING, started


def start(
    *args: object, first: str = "", ignores: Iterable[int] = (), **env: str
) -> AbstractContextManager[subprocess.Popen[str]]:
    """The command in a process of its own, after some lines of Python."""
    program = f"import sys\n{first}\nfrom callstats.cli import main\nmain()"
    return started(
        [sys.executable, "-W", "error", "-c", program, *map(str, args)],
        ignores=ignores,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    )


def run(*args: object, first: str = "", stdin: str = "", **env: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    with start(*args, first=first, **env) as program:
        out, err = program.communicate(stdin, timeout=120)
    return program.returncode, out, err


def test_python_m(tmp_path: Path) -> None:
    """`python -m callstats` is the command."""
    done = subprocess.run([sys.executable, "-m", "callstats", "--version"], check=True, capture_output=True, text=True)
    assert re.fullmatch(r"callstats \d+\.\d+\.\d+ \((cython|python) backend\)\n", done.stdout)
    done = subprocess.run([sys.executable, "-m", "callstats", "reduce"], check=False, capture_output=True, text=True)
    assert done.returncode == 2


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_a_missing_package_is_one_line(missing: str) -> None:
    """It names the package and the extra, and ends with 2."""
    done = run("--version", first=f"sys.modules[{missing!r}] = None")
    assert done == (2, "", f'callstats needs {missing}: install callstats with the extra "cli"\n')


def test_missing_sqlalchemy_is_one_line(tmp_path: Path) -> None:
    """It is a part of the extra."""
    first = "sys.modules['sqlalchemy'] = None"
    assert run("reduce", "x.db", "--max-samples", 10, first=first) == (
        2,
        "",
        'callstats: callstats.connect needs sqlalchemy: install callstats with the extra "cli"\n',
    )


@pytest.mark.parametrize(
    ("args", "code"),
    [(["reduce", "-", "--max-samples", "10"], 3), (["reduce", "--help"], 3), (["--help"], 3)],
)
def test_a_broken_pipe_is_no_traceback(args: list[str], code: int) -> None:
    """Nobody reads the output any more: the program ends, and says nothing."""
    with start(*args) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.close()
        try:
            program.stdin.write(blob(20) * 2000)
            program.stdin.close()
        except BrokenPipeError:
            pass
        err = program.stderr.read()
        assert program.wait(60) == code
    assert err == ""


def test_ctrl_c_ends_after_the_batch(tmp_path: Path) -> None:
    """The first one lets the batch at hand end, prints the summary and ends with 3; a second run does the rest."""
    db = made(tmp_path / "calls.db", [(i, blob(12)) for i in range(200)])
    with start("reduce", db, "--max-samples", 10, "--batch-size", 4, first=IN_THE_THIRD) as program:
        assert program.stderr is not None
        for _ in range(3):
            assert program.stderr.readline() == "batch\n"
        program.send_signal(signal.SIGINT)
        out, _ = program.communicate(timeout=PATIENCE)
    assert program.returncode == 3
    changed = sum(raw != blob(12).encode() for _, _, raw in cells(db))
    assert changed == 12
    assert out.startswith(f"table calls in {db}, {changed} rows: {changed} changed, ")
    assert "stopped early: asked to stop; the rows counted here are written\n" in out
    code, out, _ = run("reduce", db, "--max-samples", 10)
    assert (code, out.split(" unchanged")[0]) == (0, f"table calls in {db}, 200 rows: {200 - changed} changed, 0")
    assert f", {changed} short enough already\n" in out


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    """It doesn't wait for the batch, whose rows stay as they were."""
    db = made(tmp_path / "calls.db", [(i, blob(12)) for i in range(200)])
    with start("reduce", db, "--max-samples", 10, "--batch-size", 100, first=FOR_EVER) as program:
        assert program.stderr is not None
        for line in ("batch\n", "asked\n"):
            assert program.stderr.readline() == line
            program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=PATIENCE)
    assert (program.returncode, out) == (3, "")
    assert err == "stopped at once: the current batch was not written\n"
    assert all(raw == blob(12).encode() for _, _, raw in cells(db))


def test_an_ignored_ctrl_c(tmp_path: Path) -> None:
    """A program that was started to ignore Ctrl-C, as a shell's background job is, does its work to the end."""
    db = made(tmp_path / "calls.db", [(i, blob(12)) for i in range(40)])
    with start(
        "reduce", db, "--max-samples", 10, "--batch-size", 4, first=TELLING.format(then=""), ignores=[signal.SIGINT]
    ) as program:
        assert program.stderr is not None
        for _ in range(2):
            assert program.stderr.readline() == "batch\n"
            program.send_signal(signal.SIGINT)
        out, _ = program.communicate(timeout=PATIENCE)
    assert (program.returncode, out.split(" unchanged")[0]) == (0, f"table calls in {db}, 40 rows: 40 changed, 0")


# --- demo -------------------------------------------------------------------------------------------------------------

FEW = """
import itertools, callstats.demo
calls = callstats.demo.demo_calls
callstats.demo.demo_calls = lambda: itertools.islice(calls(), 40)
"""


def test_demo(tmp_path: Path) -> None:
    """Runs the README's lines: stores calls, records one, lists, reduces, shows one call, and writes a report."""
    db = tmp_path / "demo.db"
    code, out, err = run("demo", "--db", db, PYTHONIOENCODING="utf-8")
    assert (code, "Traceback" in err) == (0, False)
    assert out.startswith(f"$ callstats init {db} --example\n2,001 calls are in table calls in {db}\n")
    assert re.search(r"\n50000000\n", out)
    assert re.search(
        r"^callstats: peak memory at least [\d.]+ MiB \(samples every [\d.]+ m?s\), CPU [\d.]+ %, \d\.\d+ s; "
        r"call \w{26} in table calls in .*demo.db$",
        err,
        re.MULTILINE,
    )
    assert re.search(r"\n\w{26}  sh  +success +\d\d-\d\d \d\d:\d\d +[\d.]+ s +>=[\d.]+ MiB +[\d.]+ %\n", out)
    assert re.search(r"\ntable calls in .*demo.db, 2,002 rows: [\d,]+ changed", out)
    assert re.search(
        r"[\d.]+ MB before, [\d.]+ MB after in the rows changed: [\d.]+ % less\n"
        r"the database file keeps its size until a VACUUM\n[\d.]+ s, .*backend\n",
        out,
    )
    used = (
        r"duration  2 h \d\d min\nsamples   7,\d\d\d in 60 rows\nmemory    at least 1\.\d+ GiB \(sampled\)\nCPU       ~[\d.]+ %\n"
    )
    assert re.search(rf"\n{used}\nmem_usage  max 1\.\d+ GiB, limit 2 GiB, mean ", out)
    page = tmp_path / "demo-report.html"
    assert re.search(
        r"\n2,002 calls in 9 names, 0 rejected; wrote \S+demo-report.html, [23]\.\d MB: open it in a browser\n\n$", out
    )
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert "█" in out
    assert ask(db, "SELECT count(*), max(json_array_length(nullif(stats, ''))) FROM calls") == [(2002, 60)]
    code, out, _ = run("reduce", db, "--max-samples", 60)
    assert (code, out.split(", ")[1]) == (0, "2,002 rows: 0 changed")
    assert run("init", db, "--example", first=FEW)[0] == 0
    assert ask(db, "SELECT count(*) FROM calls") == [(40,)]


def test_show_in_ascii(tmp_path: Path) -> None:
    """Where the output's encoding has no blocks; by default the call with the greatest key."""
    db = tmp_path / "demo.db"
    assert run("init", db, "--example", first=FEW)[0] == 0
    key = ask(db, "SELECT max(id) FROM calls WHERE stats != ''")[0][0]
    code, out, err = run("show", db, key, PYTHONIOENCODING="ascii")
    assert (code, err) == (0, "")
    assert "##" in out
    assert out.isascii()
    assert ask(db, "SELECT max(id) FROM calls")[0][0] in run("show", db)[1]


def test_the_demo_s_lines_hold_any_name(tmp_path: Path) -> None:
    """Spaces, quotes, names within names, and one like an option."""
    for name in ("a demo.db", "it's demo-report.html.db", "-x.db"):
        code, out, err = run(
            "demo", f"--db={name}", first=f"import os; os.chdir({str(tmp_path)!r}); {FEW}", PYTHONIOENCODING="utf-8"
        )
        assert (code, (tmp_path / name).exists()) == (2, True), err  # the call that is shown is not among the few
        assert "ID or NAME must be the whole key or the name of a call in table 'calls', got '01M83YEN8Q00000000000001VP'" in err
        assert out.count("\n$ callstats ") == 4
