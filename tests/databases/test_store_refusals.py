"""What `callstats.db` refuses before it changes anything, and that no password is ever shown."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

import callstats
from callstats import CallstatsError, Rule
from callstats.db import DatabaseError
from callstats.db.engine import _without_secrets, shown_url
from support.database import TABLE, ask, blob, cell, connect, made
from support.tables import add_calls, create_table, get_series, reduce_table, restore_table

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "table": ({"table": "cals"}, "table must be a table of the database, got 'cals': it has 'calls', 'other'"),
    "key": ({"key": "ids"}, "key must be a column of table 'calls', got 'ids': it has 'id', 'status', 'stats'"),
    "column": (
        {"column": "histogram"},
        "column must be a column of table 'calls', got 'histogram': it has 'id', 'status', 'stats'",
    ),
    "one for both": ({"column": "ID"}, "column must be another column than the key, got 'ID'"),
    "not unique": (
        {"key": "status"},
        "key must be a unique column of table 'calls', got 'status': it has no unique index of its own",
    ),
    "composite": (
        {"table": "other", "key": "a"},
        "key must be one column that is unique by itself, got 'a': the primary key of 'other' is (a, b)",
    ),
    "partly unique": (
        {"table": "other", "key": "c"},
        "key must be a unique column of table 'other', got 'c': it has no unique index of its own",
    ),
    "view": ({"table": "seen"}, "key must be a unique column of table 'seen', got 'id': it has no unique index of its own"),
    "where": (
        {"where": "colour = 1"},
        "where must be a condition in the SQL of SQLite, got 'colour = 1': no such column: colour",
    ),
    "where no sql": (
        {"where": "1; DROP TABLE calls"},
        "where must be a condition in the SQL of SQLite, got '1; DROP TABLE calls': near \";\": syntax error",
    ),
    "where with a parameter": ({"where": "id = ?"}, "where must be a condition in the SQL of SQLite, got 'id = ?': "),
    "no utf-8": ({"where": "id = '\udcff'"}, "where must be text that encodes to UTF-8, got \"id = '\\udcff'\""),
    "batch_size": ({"batch_size": 0}, "batch_size must be 1 or more, got 0"),
    "batch_bytes": ({"batch_bytes": 0}, "batch_bytes must be 1 or more, got 0"),
    "threads": ({"threads": 0}, "threads must be 1 or more, got 0"),
    "jobs": ({"jobs": 0}, "jobs must be 1 or more, got 0"),
    "sleep": ({"sleep": -0.5}, "sleep must be 0 or more seconds, got -0.5"),
    "no sleep": ({"sleep": float("nan")}, "sleep must be 0 or more seconds, got nan"),
    "run_time": ({"run_time": timedelta(microseconds=-1)}, "run_time must be a timedelta of 0 or more, "),
    "limit": ({"limit": 0}, "limit must be 1 or more, or None, got 0"),
    "retries": ({"retries": -1}, "retries must be 0 or more, got -1"),
    "save in a dry run": ({"dry_run": True, "save": "x"}, "save must be None in a dry run, which changes nothing, got 'x'"),
    "save to nowhere": (
        {"save": "no/such/folder"},
        "save must be a file that can be written, got 'no/such/folder': No such file or directory",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_named(tmp_path: Path, case: str) -> None:
    """Each says in one line what was expected and what came, and nothing is changed."""
    db = made(tmp_path / "calls.db", [("a", blob(12))])
    ask(db, "CREATE TABLE other (a, b, c, stats, PRIMARY KEY (a, b))")
    ask(db, "CREATE UNIQUE INDEX some ON other (c) WHERE a > 1")
    ask(db, "CREATE VIEW seen AS SELECT * FROM calls")
    options, message = WRONG[case]
    with pytest.raises(CallstatsError) as caught:
        reduce_table(db, 10, **options)
    assert str(caught.value).startswith(message)
    assert not isinstance(caught.value, DatabaseError)
    assert cell(db, "a") == blob(12)


LEAST: dict[str, tuple[dict[str, Any], int, str | None]] = {
    "sleep": ({"sleep": 0}, 2, None),
    "run_time": ({"run_time": timedelta(0)}, 0, "the run time of 0 s is over"),
    "limit": ({"limit": 1}, 1, "the limit of 1 changed rows is reached"),
    "retries": ({"retries": 0}, 2, None),
    "batch_size": ({"batch_size": 1, "batch_bytes": 1, "threads": 1, "jobs": 1}, 2, None),
}


@pytest.mark.parametrize("case", LEAST)
def test_the_least_is_no_fault(tmp_path: Path, case: str) -> None:
    """What is just in bounds is taken, and a planned end says why."""
    options, changed, more = LEAST[case]
    report = reduce_table(made(tmp_path / "calls.db", [("a", blob(12)), ("b", blob(12))]), 10, **options)
    assert (report.stopped, report.changed, report.more) == (None, changed, more)


def test_a_bad_rule_is_refused_first(tmp_path: Path) -> None:
    """A rule is checked before the database is looked for."""
    with pytest.raises(CallstatsError, match="max_samples must be a whole number"):
        reduce_table(tmp_path / "none.db", "60")  # type: ignore[arg-type]


USES: dict[str, Callable[[Any], object]] = {
    "reduce": lambda url: reduce_table(url, 10),
    "import": lambda url: restore_table(url, os.devnull),
    "read": lambda url: get_series(url, "a"),
    "add": lambda url: add_calls(url, []),
}


@pytest.mark.parametrize("use", ["reduce", "read", "add"])
@pytest.mark.parametrize("form", ["{}", "sqlite:///{}", "sqlite3://{}", "sqlite:///file:{}?uri=true"])
def test_a_missing_file_is_not_made(tmp_path: Path, use: str, form: str) -> None:
    """Only `init` makes a database."""
    path = tmp_path / "none.db"
    makers = "callstats record makes one with its first call, callstats init an empty one"
    with pytest.raises(CallstatsError, match=rf"^there is no SQLite database '.*none\.db': {makers}$"):
        USES[use](form.format(path))
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_database_is_named(tmp_path: Path) -> None:
    """Another file, a folder, nothing at all."""
    other = tmp_path / "other.db"
    other.write_bytes(b"x" * 5000)
    with pytest.raises(CallstatsError, match=r"other\.db.: file is not a database$"):
        reduce_table(other, 10)
    with pytest.raises(CallstatsError, match="there is no SQLite database"):
        reduce_table(tmp_path, 10)
    with pytest.raises(CallstatsError, match=r"^url_or_engine must be a database URL or the path of an SQLite file, got ''$"):
        reduce_table("", 10)
    with pytest.raises(CallstatsError, match=r"^there is no folder '.*no' for the database '.*such\.db'$"):
        create_table(tmp_path / "no" / "such.db")
    for value in (3, None):
        form = "a database URL, the path of an SQLite file, or an Engine"
        with pytest.raises(CallstatsError, match=f"^url_or_engine must be {form}, got {value}$"):
            callstats.connect(value)  # type: ignore[arg-type]


def test_utf16_is_refused(tmp_path: Path) -> None:
    """The bytes of such a database's text are not those of the stored form."""
    db = made(tmp_path / "calls.db", [("a", blob(12))], before=["PRAGMA encoding = 'UTF-16'"])
    with pytest.raises(CallstatsError, match=r"^url_or_engine must be a database in UTF-8, got 'UTF-16"):
        reduce_table(db, 10)
    assert cell(db, "a") == blob(12)


def test_init_names_a_missing_key(tmp_path: Path) -> None:
    """A table without the key is not one of calls."""
    db = made(tmp_path / "calls.db", [])
    with pytest.raises(
        CallstatsError, match=r"^key must be a column of table 'calls', got 'call_id': it has 'id', 'status', 'stats'$"
    ):
        create_table(db, key="call_id", column="new")
    assert ask(db, "SELECT sql FROM sqlite_master")[0] == (TABLE,)


# --- URLs and passwords -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("calls.db", "calls.db"),
        ("/var/a b?#%.db", "/var/a b?#%.db"),
        (Path("/var/lib"), "/var/lib"),
        ("sqlite:///calls.db?timeout=3", "calls.db"),
        ("sqlite:////var/calls.db", "/var/calls.db"),
        ("sqlite3:///app/data/fn.db", "/app/data/fn.db"),
        ("sqlite3://data/fn.db", "data/fn.db"),
        ("sqlite://", ":memory:"),
        ("postgres://u:p@h:5/db", "postgresql+psycopg://u:***@h:5/db"),
        ("postgresql://u@h/db", "postgresql+psycopg://u@h/db"),
        ("mysql://u:p%40@h/db", "mysql+pymysql://u:***@h/db"),
        ("mysql+mysqldb://h/db", "mysql+mysqldb://h/db"),
        ("postgres://h/db?password=p&sslmode=require", "postgresql+psycopg://h/db?password=***&sslmode=require"),
    ],
)
def test_urls(given: str | Path, url: str) -> None:
    """Bare paths, SQLAlchemy's URLs and Fn's schemes; passwords hidden."""
    assert shown_url(given) == url


SECRET = "s3kr3t"


@pytest.mark.parametrize(
    "url",
    [
        f"postgres://user:{SECRET}@127.0.0.1:1/db",
        f"mysql://user:{SECRET}@127.0.0.1:1/db",
        f"foo://user:{SECRET}@host/db",
        f"foo+bar://user:{SECRET}@host/db",
        f"postgres://user:{SECRET}@[host/db",
        f"mysql://user:{SECRET}@host:port/db",
        f"://user:{SECRET}@host/db",
        f"sqlite://user:{SECRET}@host/db.sqlite",
        f"sqlite:///none.db?password={SECRET}",
    ],
)
@pytest.mark.parametrize("use", USES)
@pytest.mark.filterwarnings("ignore:Query string argument")
def test_a_password_is_never_shown(url: str, use: str) -> None:
    """Not in the error, nor in its whole traceback."""
    try:
        told = repr(USES[use](url))  # a report that it stopped, since nobody answers
    except CallstatsError as error:
        lines = [line for line in traceback.format_exception(error) if "USES[use]" not in line and "lambda url" not in line]
        told = "".join([*lines, repr(error)])
    assert SECRET not in told


@pytest.mark.parametrize(
    ("password", "said", "told"),
    [
        ("s3kr3t", "user=u password=s3kr3t, twice: xs3kr3tx", "user=u password=***, twice: x***x"),
        ("s.kr", "s.kr but not sakr", "*** but not sakr"),
        ("abc", "abc is a word, in abcd it is none", "*** is a word, in abcd it is none"),
        ("other", "nothing of it, but key k3y", "nothing of it, but key ***"),
    ],
)
def test_a_driver_that_quotes_a_password(password: str, said: str, told: str) -> None:
    """It is replaced in the text, one of up to three characters only as a word of its own."""
    with pytest.raises(DatabaseError) as caught, _without_secrets(make_url(f"mysql://u:{password}@host/db?ssl_key=k3y")):
        raise DatabaseError(said)
    assert str(caught.value) == told
    assert said == told or said not in "".join(traceback.format_exception(caught.value))


def test_no_cells_in_errors(tmp_path: Path) -> None:
    """A driver's error is passed on without its SQL and parameters, which hold whole histograms."""
    db = made(tmp_path / "calls.db", [("a", blob(12))])
    ask(db, "CREATE TRIGGER no BEFORE UPDATE ON calls BEGIN SELECT RAISE(ROLLBACK, 'not now'); END")
    [reject] = reduce_table(db, 10).rejects
    assert reject == ("a", "a trigger rejects the text and rolls back the whole batch: not now")
    ask(db, "DROP TRIGGER no")
    ask(db, "CREATE TRIGGER no BEFORE UPDATE ON calls BEGIN INSERT INTO no_table VALUES (new.stats); END")
    assert reduce_table(db, 10).stopped == "no such table: main.no_table"


# --- without SQLAlchemy -----------------------------------------------------------------------------------------------


def run(program: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], check=False, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout


def test_sqlalchemy_is_loaded_where_it_is_used() -> None:
    """Neither the package nor `callstats.db` loads it by being imported."""
    assert run("import sys, callstats.db; print('sqlalchemy' in sys.modules)") == "False\n"


def test_missing_sqlalchemy_is_named() -> None:
    """One line, with the function and the extra."""
    program = (
        "import sys; sys.modules['sqlalchemy'] = None\n"
        "from callstats import connect\n"
        "try:\n    connect('x')\nexcept ImportError as error:\n    print(error)"
    )
    assert run(program) == 'callstats.connect needs sqlalchemy: install callstats with the extra "cli"\n'


def test_a_locked_database_is_no_wrong_use(tmp_path: Path) -> None:
    """A DatabaseError for functions without a report; `stopped` in a report."""
    db = made(tmp_path / "calls.db", [("a", blob(12))])
    url = f"sqlite:///{db}?timeout=0.05"
    with closing(connect(db)) as other:
        other.execute("BEGIN IMMEDIATE")
        report = reduce_table(url, Rule(10))
        assert report.stopped == "database is locked: another program kept its lock for too long"
        assert report.changed == 0
        with pytest.raises(DatabaseError, match=r"^database is locked: another program kept its lock for too long$"):
            create_table(url)
        other.execute("ROLLBACK")
        other.execute("BEGIN EXCLUSIVE")
        assert "database is locked" in str(reduce_table(url, 10).stopped)
        assert "database is locked" in str(reduce_table(url, 10, dry_run=True).stopped)
    assert reduce_table(url, 10).changed == 1
