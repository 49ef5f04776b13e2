"""The mutants that `make mutate` plants: where they stand, and that what is planted is still the program."""

from __future__ import annotations

import ast
import os
import random
import tomllib
from collections.abc import Iterator

import pytest

from support import mutation
from support.mutation import Change, candidates, cython_changes, python_changes, sample
from support.servers import Server

PYTHON = '''from __future__ import annotations
LIMIT = 3 + 4

def inside(n: int = 2, *, of: list[int]) -> bool:
    """Not 1 < 2."""
    if of is None or n <= 0:
        raise ValueError(f"{n + 1} is too few")
    of[0] = min(n, 7)
    return n < 5

def abstract() -> None:
    zip(strict=True)
    raise NotImplementedError
'''
CYTHON = '''cdef enum:
    SIZE = 1 + 2

cdef inline int inside(const uint8_t* at, Py_ssize_t n) noexcept nogil:
    """Not 1 < 2."""
    cdef int64_t left = <int64_t>(n - 1) * 8
    if <uint64_t>n >= SIZE and at[0] == b"x":  # 3 < 4
        memset(&at[1], 0, n)
    return 0
'''


def shown(changes: list[Change]) -> set[tuple[int, str, str | None]]:
    """The mutants by line, old and new text."""
    return {(change.line, change.old, change.new) for change in changes}


def test_mutants_of_python() -> None:
    """Operators, whole numbers, results and statements of functions; no heads, texts, types, or what runs at import."""
    assert shown(list(python_changes("a.py", PYTHON))) == {
        (6, "of is None or n <= 0", "of is None and n <= 0"),
        (6, "of is None", "of is not None"),
        (6, "n <= 0", "n < 0"),
        (6, "0", "1"),
        (7, 'raise ValueError(f"{n + 1} is too few")', None),
        (8, "of[0] = min(n, 7)", None),
        (8, "0", "1"),
        (8, "min(n, 7)", "max(n, 7)"),
        (8, "7", "8"),
        (9, "n < 5", "None"),
        (9, "n < 5", "n <= 5"),
        (9, "5", "6"),
        (12, "zip(strict=True)", None),
    }


def test_mutants_of_cython() -> None:
    """The same of Cython, casts and addresses included; no declarations outside of functions."""
    found = list(cython_changes("a.pyx", CYTHON))
    assert all(CYTHON[change.start : change.end] == change.old for change in found)
    assert shown(found) == {
        (6, "<int64_t>(n - 1) * 8", "<int64_t>(n - 1) + 8"),
        (6, "n - 1", "n + 1"),
        (6, "1", "2"),
        (6, "8", "9"),
        (7, '<uint64_t>n >= SIZE and at[0] == b"x"', '<uint64_t>n >= SIZE or at[0] == b"x"'),
        (7, "<uint64_t>n >= SIZE", "<uint64_t>n > SIZE"),
        (7, 'at[0] == b"x"', 'at[0] != b"x"'),
        (7, "0", "1"),
        (8, "memset(&at[1], 0, n)", None),
        (8, "1", "2"),
        (8, "0", "1"),
        (9, "0", "1"),
    }


def test_planted_mutants_are_off() -> None:
    """With no switch on, the planted program does what it did; with one on, another thing; and no two mutants overlap."""
    changes = list(python_changes("a.py", PYTHON))
    drawn = sample(changes, len(changes), random.Random(1))
    text = PYTHON
    for number, change in sorted(enumerate(drawn, 1), key=lambda found: -found[1].start):
        assert text[change.start : change.end] == change.old
        text = text[: change.start] + change.planted(number) + text[change.end :]
    ast.parse(text)
    results = set()
    for on in range(len(drawn) + 1):
        names: dict[str, object] = {"mutant_on": on.__eq__}
        exec(text, names)
        values: list[int] = [0, 0]
        try:
            results.add((names["inside"](3, of=values), *values))
        except ValueError:
            results.add("refused")
        if on == 0:
            assert results == {(True, 3, 0)}
    assert len(results) > 2


def test_tests_share_the_servers_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of each runs until all mutants are done; the tests of a missing one are skipped as ever."""
    ran = []

    def run_postgres() -> Iterator[Server]:
        ran.append("starts")
        yield Server("postgres", {"user": "u", "password": "p", "host": "h", "port": 1})
        ran.append("never")

    def run_mysql() -> Iterator[Server]:
        pytest.skip("no server here")
        yield

    monkeypatch.setattr(mutation, "run_postgres", run_postgres)
    monkeypatch.setattr(mutation, "run_mysql", run_mysql)
    for name in ("CALLSTATS_POSTGRES_URL", "CALLSTATS_MYSQL_URL"):
        monkeypatch.delenv(name, raising=False)
    with mutation.servers():
        assert os.environ["CALLSTATS_POSTGRES_URL"] == "postgres://u:p@h:1/postgres"
        assert "CALLSTATS_MYSQL_URL" not in os.environ
    del os.environ["CALLSTATS_POSTGRES_URL"]  # monkeypatch would put it back for the tests of servers
    assert ran == ["starts"]


@pytest.mark.skipif(not (mutation.ROOT / mutation.PACKAGE).exists(), reason="a wheel's tests have no sources beside them")
def test_equivalents_still_stand_in_the_tree() -> None:
    """Each mutant that is left out is one that would be planted, and says why it changes nothing."""
    changes = [*candidates(mutation.CYTHON), *candidates(mutation.PYTHON)]
    planted = {(change.file, change.context, change.new or "") for change in changes}
    listed = tomllib.loads((mutation.ROOT / "tests" / "equivalents.toml").read_text(encoding="utf-8"))["mutant"]
    assert all(each["why"] for each in listed)
    assert [each for each in listed if (each["file"], each["line"], each["new"]) not in planted] == []
