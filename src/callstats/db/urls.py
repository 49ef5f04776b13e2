"""Database URLs: SQLAlchemy's, a bare path for SQLite, and the schemes that Fn's own URLs have. Nothing here shows a password."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from callstats._extras import needs
from callstats.errors import CallstatsError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Engine

_DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
_GO_ADDRESS = re.compile(r"@tcp\(([^()]*)\)(?=/|$)")
"""An address as Go's MySQL driver has it: ``user:password@tcp(host:port)/database``."""
_SECRET = re.compile("pass|pwd|secret|token|key", re.IGNORECASE)


def require_sqlalchemy(function: str) -> None:
    """Say in one line what is missing, and how to get it."""
    with needs(f"db.{function}", "cli"):
        import sqlalchemy  # noqa: F401 - only whether it is installed


def parse_url(source: str | os.PathLike[str] | URL) -> URL:
    """The SQLAlchemy URL that a text, a path or a URL names.

    What follows ``sqlite3://`` is the path as it stands, as Fn has it: ``sqlite3:///app/data/fn.db`` is ``/app/data/fn.db``,
    where SQLAlchemy's ``sqlite:///`` begins a relative path.
    """
    from sqlalchemy.engine import URL, make_url
    from sqlalchemy.exc import ArgumentError

    if isinstance(source, URL):
        return source
    text = os.fspath(source)
    scheme, mark, rest = text.partition("://")
    if not mark or not isinstance(source, str):
        if not text:
            raise CallstatsError("expected a database URL or the path of an SQLite file, got ''")
        return URL.create("sqlite", database=text)
    try:
        if scheme == "sqlite3":
            return make_url(f"sqlite:///{rest}")
        if scheme == "mysql":
            rest = _GO_ADDRESS.sub(r"@\1", rest)
        return make_url(f"{_DRIVERS.get(scheme, scheme)}://{rest}")
    except (ArgumentError, ValueError):  # their texts may hold the whole URL
        raise CallstatsError(
            "expected a database URL such as sqlite:///calls.db or postgresql://user:password@host/database"
        ) from None


def url_of(source: str | os.PathLike[str] | URL | Engine) -> URL:
    """The URL that a text, a path, a URL or an Engine stands for."""
    from sqlalchemy.engine import Engine

    return source.url if isinstance(source, Engine) else parse_url(source)


@contextmanager
def without_secrets(url: URL) -> Iterator[None]:
    """Take the passwords of a URL out of an error's text, should a driver have quoted them."""
    given = [url.password, *(value for name, value in url.query.items() if _SECRET.search(name))]
    secrets = [re.escape(str(secret)) for secret in given if secret]
    try:
        yield
    except CallstatsError as error:
        text = str(error)
        for secret in secrets:
            text = re.sub(secret if len(secret) > 3 else rf"(?<!\w){secret}(?!\w)", "***", text)
        if text == str(error):
            raise
        raise type(error)(text) from None


def shown_url(source: str | os.PathLike[str] | URL) -> str:
    """A URL for people to read: passwords are ``***``, in its query too. An SQLite file is its path."""
    url = parse_url(source)
    if url.get_backend_name() == "sqlite":
        return url.database or ":memory:"
    hidden = {name: "***" for name in url.query if _SECRET.search(name)}
    shown = url.update_query_dict(hidden).render_as_string(hide_password=True)
    return shown.replace("%2A%2A%2A", "***")
