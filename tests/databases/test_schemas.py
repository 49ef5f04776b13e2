"""``schema.table`` in every command, on servers and for an attached SQLite database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from callstats import reduce_json
from callstats.cli.app import cli
from callstats.db import connect
from support.database import blob
from support.databases import Database

DONE = reduce_json([blob(30)], 10)[0].decode()


def run(*args: object) -> Result:
    """The command in this process, which must end well."""
    result = CliRunner().invoke(cli, list(map(str, args)), prog_name="callstats")
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("table", ["calls", "odd.name"])
def test_every_command_takes_a_schema(on_server: Database, table: str, tmp_path: Path) -> None:
    """Whatever the default schema holds, and whatever the table's name."""
    schema = f"other_{on_server.name}"
    quote = '"' if on_server.kind == "postgres" else "`"
    on_server.ask(f"CREATE SCHEMA {schema}")
    try:
        run("init", on_server.url)
        name, options = f"{schema}.{table}", ("--table", f"{schema}.{table}")
        assert f"created table {name} in " in run("init", on_server.url, *options).stdout
        assert f"nothing to do: table {name} in " in run("init", on_server.url, *options).stdout
        full = f"{quote}{schema}{quote}.{quote}{table}{quote}"
        on_server.ask(f"INSERT INTO {full} (id, fn_id, stats, created_at) VALUES (?, ?, ?, ?)", "a", "f", blob(30), "2020-01-01")
        saved = tmp_path / "old.jsonl"
        assert (
            " 1 row: 1 changed, "
            in run("reduce", on_server.url, *options, "--tier", "7d=10", "--how", "mean", "--save", saved).stdout
        )
        assert on_server.ask(f"SELECT stats FROM {full}") == [(DONE,)]
        assert "1 row put back" in run("import", on_server.url, saved, *options).stdout
        assert on_server.ask(f"SELECT stats FROM {full}") == [(blob(30),)]
        assert json.loads(run("list", on_server.url, *options, "--json").stdout)["key"] == "a"
        assert json.loads(run("show", on_server.url, "a", *options, "--json").stdout)["key"] == "a"
        assert json.loads(run("summary", on_server.url, *options, "--json").stdout)["groups"][0]["calls"] == 1
        run("report", on_server.url, *options, "-o", tmp_path / "page.html")
        run("export", on_server.url, tmp_path / "calls.parquet", *options)
        with connect(on_server.url, table=name) as calls:
            assert (calls.add([{"id": "b", "stats": ""}]), calls.get("b").key, len(calls.list())) == (1, "b", 2)
        assert on_server.ask("SELECT count(*) FROM calls") == [(0,)]
    finally:
        on_server.ask(f"DROP SCHEMA {schema} CASCADE" if on_server.kind == "postgres" else f"DROP SCHEMA {schema}")
