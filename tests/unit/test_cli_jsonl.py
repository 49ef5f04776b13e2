"""`reduce -`: lines in, lines out, without a database."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner, Result

from callstats import KEEP_PEAKS, reduce_json
from callstats.cli.app import cli
from support.database import blob

pytestmark = pytest.mark.usefixtures("backend")

KEPT: Any = KEEP_PEAKS


def run(*args: object, stdin: bytes | None = None, url: str | None = None) -> Result:
    """What the command prints of these lines."""
    command = ["reduce", "-", "--max-samples", "10", *map(str, args)]
    return CliRunner(env={"CALLSTATS_URL": url}).invoke(cli, command, input=stdin, prog_name="callstats")


@pytest.mark.parametrize("options", [[], ["--batch-size", "1"], ["--threads", "3"], ["--batch-bytes", "1"]])
def test_lines(backend: str, options: list[str]) -> None:
    """Long lines are reduced, others pass through as they came, line for line."""
    long, short = blob(100), blob(2)
    result = run(*options, stdin=(long + short + "\n" + "null\n" + long).encode())
    (want,) = reduce_json([long], 10, how=KEPT)
    assert result.exit_code == 0
    assert result.stdout_bytes == want + short.encode() + b"\nnull\n" + want
    assert result.stderr.startswith("standard input, 5 rows: 2 changed, 3 unchanged, 0 rejected\n")
    assert f", {backend} backend\n" in result.stderr


def test_rejected_lines_pass_through() -> None:
    """Each is named by its number on standard error, and stands unchanged in its place; exit code 1."""
    lines = [blob(20).encode(), b"[\xff\n", blob(20).encode(), b'{"\x1b[2J\n', b"  \n"]
    result = run(stdin=b"".join(lines))
    (want,) = reduce_json([blob(20)], 10, how=KEPT)
    assert result.exit_code == 1
    assert result.stdout_bytes == want + lines[1] + want + lines[3] + lines[4]
    messages = result.stderr.splitlines()
    assert [line.split(":")[0] for line in messages[:3]] == ["rejected 2", "rejected 4", "rejected 5"]
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_line_ends(end: bytes) -> None:
    """A line that stays keeps its end, or its lack of one; a line written anew ends in a line feed."""
    short, long = blob(2).encode().rstrip(), blob(20).encode().rstrip()
    assert run(stdin=short + end).stdout_bytes == short + end
    assert run(stdin=long + end).stdout_bytes == reduce_json([long], 10, how=KEPT)[0]
    assert run(stdin=end).stdout_bytes == end


def test_what_is_reduced_to_nothing_is_an_empty_line() -> None:
    """As many lines come out as went in."""
    result = run("--max-samples", 0, stdin=blob(2).encode() * 3)
    assert result.stdout_bytes == b"\n\n\n"


def test_options_reach_the_rule() -> None:
    """The rule's options mean the same as for tables."""
    result = run("--plain", "--missing", "zero", "--max-bytes", "1kB", stdin=blob(100).encode())
    assert result.stdout_bytes == reduce_json([blob(100)], 10, missing="zero", max_bytes=1024, counts=False)[0]


def test_nothing_at_all() -> None:
    """No lines, no trouble."""
    result = run(stdin=b"")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("standard input, 0 rows: ")
