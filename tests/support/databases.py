"""One way to make and look at tables of calls in SQLite, PostgreSQL and MySQL or MariaDB."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.servers import Server

KINDS = ("sqlite", "postgres", "mysql")
SERVERS = KINDS[1:]

TYPES = {
    "text": {"sqlite": "TEXT", "postgres": "TEXT", "mysql": "LONGTEXT"},
    "blob": {"sqlite": "BLOB", "postgres": "BYTEA", "mysql": "LONGBLOB"},
    "key": {"sqlite": "TEXT", "postgres": "VARCHAR(256)", "mysql": "VARCHAR(256)"},
    "short": {"sqlite": "TEXT", "postgres": "VARCHAR(256)", "mysql": "VARCHAR(256)"},
}


class Database:
    """An empty database of one kind."""

    def __init__(self, kind: str, url: str, server: Server | None = None, name: str = "") -> None:
        self.kind = kind
        self.url = url
        self.server = server
        self.name = name

    @contextmanager
    def connect(self, **options: Any) -> Iterator[Any]:
        """A connection of the driver's that commits each statement."""
        if self.server is None:
            connection: Any = sqlite3.connect(self.url, isolation_level=None, **{"timeout": 30, **options})
        else:
            connection = self.server.connect(self.name, **options)
        with closing(connection):
            yield connection

    def run(self, connection: Any, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement, its parameters as question marks."""
        cursor = connection.cursor()
        if self.kind != "sqlite":
            statement = statement.replace("?", "%s")
        cursor.execute(statement, values) if values else cursor.execute(statement)
        rows = [tuple(row) for row in cursor.fetchall()] if cursor.description else []
        cursor.close()
        return rows

    def ask(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement on a connection of its own."""
        with self.connect() as connection:
            return self.run(connection, statement, *values)

    def make(
        self,
        cells: Iterable[tuple[Any, ...]],
        *,
        stats: str = "text",
        key: str = "key",
        more: str = "",
        columns: str = "id, stats",
        table: str = "calls",
        end: str = "",
    ) -> None:
        """Make a table with these rows; a type is one of `TYPES`, or the database's own."""
        types = [TYPES[name][self.kind] if name in TYPES else name for name in (key, stats)]
        self.ask(
            f"CREATE TABLE {table} (id {types[0]} PRIMARY KEY, status {TYPES['short'][self.kind]}, stats {types[1]}{more}){end}"
        )
        self.add(cells, columns=columns, table=table)

    def add(self, cells: Iterable[tuple[Any, ...]], *, columns: str = "id, stats", table: str = "calls") -> None:
        """Put rows in."""
        marks = ", ".join("?" * (columns.count(",") + 1))
        statement = f"INSERT INTO {table} ({columns}) VALUES ({marks})"
        with self.connect() as connection:
            cursor = connection.cursor()
            cursor.execute("BEGIN")
            rows = list(cells)
            if rows:
                cursor.executemany(statement if self.kind == "sqlite" else statement.replace("?", "%s"), rows)
            cursor.execute("COMMIT")

    def cells(self, table: str = "calls") -> dict[Any, Any]:
        """Each key's cell, as the driver gives it."""
        return dict(self.ask(f"SELECT id, stats FROM {table}"))

    def cell(self, key: Any) -> Any:
        """One cell."""
        [(value,)] = self.ask("SELECT stats FROM calls WHERE id = ?", key)
        return value


def a_database(kind: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Database]:
    """A fresh one, gone afterwards."""
    if kind == "sqlite":
        yield Database(kind, str(folder / "calls.db"))
        return
    server: Server = request.getfixturevalue({"postgres": "postgres_server", "mysql": "mysql_server"}[kind])
    name = server.new_database()
    with pytest.MonkeyPatch.context() as patch:
        if kind == "mysql":  # PyMySQL reads all certificates for each connection, even to a server without TLS
            patch.setenv("SSL_CERT_FILE", os.devnull)
        try:
            yield Database(kind, server.url(name), server, name)
        finally:
            server.drop_database(name)


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind."""
    yield from a_database(request.param, request, tmp_path)


@pytest.fixture(params=SERVERS)
def on_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each server."""
    yield from a_database(request.param, request, tmp_path)


@pytest.fixture
def postgres(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of PostgreSQL."""
    yield from a_database("postgres", request, tmp_path)


@pytest.fixture
def mysql(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of MariaDB or MySQL."""
    yield from a_database("mysql", request, tmp_path)
