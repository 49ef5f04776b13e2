"""What the command and the library say to somebody who is new to them: refusals name the way out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from callstats import ImageError, connect, record
from callstats.cli.app import cli
from support.database import ask, blob, made

pytestmark = pytest.mark.usefixtures("backend")


def run(*args: object) -> Result:
    """What a command prints and how it ends."""
    return CliRunner(env={"CALLSTATS_URL": None}).invoke(cli, [str(arg) for arg in args], prog_name="callstats")


def test_wrong_use_of_docker_stores_no_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing extra and a wrong image are told before the call has a row; so it is in Python."""
    db = tmp_path / "calls.db"
    with connect(db) as calls:
        calls.create()
        with pytest.raises(ImageError):
            record(["true"], driver="docker", image="a@b@c", into=calls)
        monkeypatch.setitem(sys.modules, "docker", None)
        result = run("record", "--db", db, "--driver", "docker", "--image", "alpine", "--", "true")
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert 'needs docker: install callstats with the extra "docker"' in result.stderr
        with pytest.raises(ImportError, match="needs docker"):
            record(["true"], driver="docker", image="alpine", into=calls)
        assert calls.list() == []
