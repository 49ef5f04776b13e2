"""Triggers and rules that refuse a row, undo its change or end the transaction: the row is named, and the others go on."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from callstats import reduce_json
from support.database import blob
from support.databases import Database
from support.tables import reduce_table, restore_table

REDUCED = reduce_json([blob(30)], 10)[0].decode()

KEPT = "the database keeps the old text: something, such as a trigger or a rule, undoes the change"

UNDOING = {
    "sqlite": {
        "before": "CREATE TRIGGER odd BEFORE UPDATE ON calls WHEN old.id IN ({keys}) BEGIN SELECT RAISE(IGNORE); END",
        "after": "CREATE TRIGGER odd AFTER UPDATE ON calls WHEN old.id IN ({keys}) AND new.stats <> old.stats "
        "BEGIN UPDATE calls SET stats = old.stats WHERE id = old.id; END",
    },
    "postgres": {
        "null": "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF old.id IN ({keys}) THEN RETURN NULL; END IF; RETURN NEW; END $$",
        "old": "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF old.id IN ({keys}) THEN RETURN OLD; END IF; RETURN NEW; END $$",
        "rule": "CREATE RULE odd AS ON UPDATE TO calls WHERE old.id IN ({keys}) DO INSTEAD NOTHING",
    },
    "mysql": {
        "old": "CREATE TRIGGER odd BEFORE UPDATE ON calls FOR EACH ROW "
        "BEGIN IF old.id IN ({keys}) THEN SET new.stats = old.stats; END IF; END",
    },
}

RAISING = {
    "sqlite": {
        "abort": "CREATE TRIGGER odd BEFORE UPDATE ON calls WHEN old.id IN ({keys}) BEGIN SELECT RAISE(ABORT, 'not this'); END",
        "fail": "CREATE TRIGGER odd BEFORE UPDATE ON calls WHEN old.id IN ({keys}) BEGIN SELECT RAISE(FAIL, 'not this'); END",
        "rollback": "CREATE TRIGGER odd BEFORE UPDATE ON calls WHEN old.id IN ({keys}) "
        "BEGIN SELECT RAISE(ROLLBACK, 'not this'); END",
    },
    "postgres": {
        state: "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF old.id IN ({keys}) THEN "
        f"RAISE EXCEPTION 'not this' USING ERRCODE = '{state}'; END IF; RETURN NEW; END $$"
        for state in ("P0001", "42501", "0A000", "U0001")
    },
    "mysql": {
        f"signal{more[-6:]}": "CREATE TRIGGER odd BEFORE UPDATE ON calls FOR EACH ROW BEGIN IF old.id IN ({keys}) THEN "
        f"SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not this'{more}; END IF; END"
        for more in ("", ", MYSQL_ERRNO = 30001")
    },
}


def with_trigger(database: Database, statement: str, keys: str) -> None:
    """Make it, where it is a function by a trigger."""
    database.ask(statement.replace("{keys}", ", ".join(f"'{key}'" for key in keys)))
    if statement.startswith("CREATE FUNCTION"):
        database.ask("CREATE TRIGGER odd BEFORE UPDATE ON calls FOR EACH ROW EXECUTE FUNCTION odd()")


def on_each(triggers: dict[str, dict[str, str]]) -> pytest.MarkDecorator:
    """Each trigger on the database that has its like."""
    cases = [(kind, name) for kind in triggers for name in triggers[kind]]
    return pytest.mark.parametrize(("database", "name"), cases, indirect=["database"])


@on_each(UNDOING)
def test_a_change_that_is_undone_is_refused(database: Database, name: str, tmp_path: Path) -> None:
    """Each run names the rows whose text the database keeps; it isn't counted as changed, and the others are."""
    database.make([(key, blob(30)) for key in "abcdef"])
    with_trigger(database, UNDOING[database.kind][name], "be")
    for changed in (4, 0):
        report = reduce_table(database.url, 10, batch_size=3)
        assert (report.changed, report.rejected, report.stopped) == (changed, 2, None)
        assert report.rejects == (("b", KEPT), ("e", KEPT))
    assert database.cells() == {key: blob(30) if key in "be" else REDUCED for key in "abcdef"}
    file = tmp_path / "old.jsonl"
    file.write_text("".join(json.dumps({"key": key, "stats": "[]"}) + "\n" for key in "abz"))
    back = restore_table(database.url, file)
    assert (back.restored, back.rejected, back.unknown_keys) == (1, 1, ("z",))
    assert back.rejects == (("b", "the database keeps another text: something, such as a trigger or a rule, undoes the change"),)
    assert (database.cell("a"), database.cell("b")) == ("[]", blob(30))


@on_each(RAISING)
def test_a_change_that_is_refused(database: Database, name: str, tmp_path: Path) -> None:
    """Under whatever state or number it raises, and if it ends the whole transaction, the row is named with its words."""
    database.make([(key, blob(30)) for key in "abcdef"])
    with_trigger(database, RAISING[database.kind][name], "be")
    saved = tmp_path / "old.jsonl"
    report = reduce_table(database.url, 10, batch_size=4, save=saved)
    assert (report.changed, report.rejected, report.stopped) == (4, 2, None)
    assert [reject.key for reject in report.rejects] == ["b", "e"]
    assert all("not this" in reject.reason for reject in report.rejects)
    assert database.cells() == {key: blob(30) if key in "be" else REDUCED for key in "abcdef"}
    assert {json.loads(line)["key"] for line in saved.read_text().splitlines()} >= {*"acdf"}
    file = tmp_path / "more.jsonl"
    file.write_text("".join(json.dumps({"key": key, "stats": "[]"}) + "\n" for key in "abz"))
    back = restore_table(database.url, file)
    assert (back.restored, back.unknown_keys, back.stopped) == (1, ("z",), None)
    [reject] = back.rejects
    assert reject.key == "b"
    assert "not this" in reject.reason
    assert (database.cell("a"), database.cell("b")) == ("[]", blob(30))


def test_a_conflict_that_is_ignored_is_refused(tmp_path: Path) -> None:
    """SQLite's conflict clauses undo a change without a trigger."""
    path, rows = tmp_path / "calls.db", {key: blob(30) + " " * i for i, key in enumerate("abc")}
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE calls (id TEXT PRIMARY KEY, stats TEXT UNIQUE ON CONFLICT IGNORE)")
        connection.executemany("INSERT INTO calls VALUES (?, ?)", rows.items())
    report = reduce_table(path, 10)
    assert (report.changed, report.rejects) == (1, (("b", KEPT), ("c", KEPT)))
    file = tmp_path / "old.jsonl"
    file.write_text("".join(json.dumps({"key": key, "stats": rows["c"]}) + "\n" for key in "abz"))
    back = restore_table(path, file)
    assert (back.restored, back.unknown_keys, [key for key, _ in back.rejects]) == (0, ("z",), ["a", "b"])
    with closing(sqlite3.connect(path)) as connection:
        assert dict(connection.execute("SELECT * FROM calls")) == rows | {"a": REDUCED}


def test_a_conflict_beside_a_refusal(tmp_path: Path) -> None:
    """Where rows are written one by one, too."""
    path = tmp_path / "calls.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE TABLE calls (id TEXT PRIMARY KEY, stats TEXT UNIQUE ON CONFLICT IGNORE, "
            "CHECK (id <> 'c' OR stats LIKE '%  '))"
        )
        connection.executemany("INSERT INTO calls VALUES (?, ?)", [(key, blob(30) + " " * i) for i, key in enumerate("abc")])
    report = reduce_table(path, 10)
    assert (report.changed, [key for key, _ in report.rejects]) == (1, ["b", "c"])
    assert report.rejects[0].reason == KEPT
    file = tmp_path / "old.jsonl"
    texts = {"a": blob(30) + "  ", "b": "[]", "c": "[]", "z": "[]"}  # which c has already, as it is, not allowed, of no row
    file.write_text("".join(json.dumps({"key": key, "stats": stats}) + "\n" for key, stats in texts.items()))
    back = restore_table(path, file)
    assert (back.rows, back.restored, back.unknown_keys, {key for key, _ in back.rejects}) == (4, 1, ("z",), {"a", "c"})


def test_a_cell_in_a_form_of_its_own(postgres: Database, tmp_path: Path) -> None:
    """JSONB writes what is put back in its own way, and a harmless trigger makes nothing of that."""
    postgres.make([("a", blob(30))])
    postgres.ask("ALTER TABLE calls ALTER COLUMN stats TYPE jsonb USING stats::jsonb")
    postgres.ask("CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$")
    postgres.ask("CREATE TRIGGER odd BEFORE UPDATE ON calls FOR EACH ROW EXECUTE FUNCTION odd()")
    file = tmp_path / "old.jsonl"
    file.write_text(json.dumps({"key": "a", "stats": blob(3)}) + "\n")
    back = restore_table(postgres.url, file)
    assert (back.restored, back.rejected) == (1, 0)


def test_a_change_that_an_heirs_trigger_undoes(postgres: Database) -> None:
    """A row of a table that inherits from this one is written through it, and that table's triggers see to it."""
    postgres.make([(key, blob(30)) for key in "ab"])
    postgres.ask("CREATE TABLE heirs () INHERITS (calls)")
    postgres.ask(f"INSERT INTO heirs (id, stats) VALUES ('k', '{blob(30)}')")
    postgres.ask("CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$")
    postgres.ask("CREATE TRIGGER odd BEFORE UPDATE ON heirs FOR EACH ROW EXECUTE FUNCTION odd()")
    report = reduce_table(postgres.url, 10)
    assert (report.changed, report.rejects) == (2, (("k", KEPT),))


def test_a_generated_column_is_wrong_use(database: Database) -> None:
    """Nothing can be written to it; what only reads takes it."""
    text = {"sqlite": "TEXT", "postgres": "TEXT", "mysql": "LONGTEXT"}[database.kind]
    database.make([("a", blob(30))], more=f", twin {text} GENERATED ALWAYS AS (stats) STORED")
    with pytest.raises(ValueError, match=r"^column must be writable, got 'twin': the database generates it$"):
        reduce_table(database.url, 10, column="twin")
    assert reduce_table(database.url, 10).changed == 1
