"""Engines and URLs: SQLAlchemy's URLs, a bare path for SQLite, and Fn's schemes. Nothing here shows a password."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from callstats._extras import needs
from callstats.db.results import ConnectionLostError, TimedOutError, TransientError
from callstats.errors import ArgumentError, CallstatsError, DatabaseError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Connection, Engine

    from callstats.db.dialects.base import Dialect
    from callstats.db.query import Names, TableSession

_DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
_SHORT_SECRET = 3
"""Passwords up to this length may be part of another word."""
_GO_ADDRESS = re.compile(r"@tcp\(([^()]*)\)(?=/|$)")
"""An address as Go's MySQL driver writes it: ``user:password@tcp(host:port)/database``."""
_SECRET = re.compile("pass|pwd|secret|token|key", re.IGNORECASE)
_CREDENTIALS = re.compile(
    r"(?:(?:[\w+.-]+:)*/{1,3})?[^\s/:@]*:(?P<password>.+)@(?!sha\d+:)|"  # an image with a digest is none
    r"[\w+.-]+:/{1,3}[^\s/:@]*:(?P<port>(?!\d*(?:[/?]|$)).+)",  # no port: the host is missing
    re.DOTALL,
)
"""A user and a password in a URL, or in what is left of one without its scheme or host."""
_QUERY = re.compile(r".*?[?&](?P<name>[^=&#]+)=(?P<password>[^&#]+)", re.DOTALL)


class WrongUseError(CallstatsError, ValueError):
    """The database rejects an argument, such as a table, a column or a condition."""


class Database:
    """An engine, either made from a URL or the caller's own, and sessions on it."""

    def __init__(self, source: str | os.PathLike[str] | URL | Engine) -> None:
        from sqlalchemy.engine import Engine

        self._owns_engine = not isinstance(source, Engine)
        self.engine = source if isinstance(source, Engine) else _create_engine(parse_url(source))

    @contextmanager
    def session(self, *, create: bool = False) -> Iterator[tuple[Connection, Dialect]]:
        """Open a connection for the dialect's transactions. The database must exist unless it may be created."""
        url = self.engine.url
        dialect = dialect_of(url)
        missing = dialect.missing_file(url) if self._owns_engine else None
        if missing is not None and create and not os.path.isdir(folder := os.path.dirname(missing) or "."):  # noqa: PTH112, PTH120
            raise WrongUseError(f"there is no folder {folder!r} for the database {missing!r}")
        if missing is not None and not create:
            makers = "callstats record makes one with its first call, callstats init an empty one"
            raise WrongUseError(f"there is no {dialect.name} database {missing!r}: {makers}")
        which = f"{url.database!r}: " if dialect.name == "SQLite" and url.database else ""
        with _without_secrets(url), translated(dialect), ExitStack() as stack:
            with translated(dialect, which):
                connection = stack.enter_context(_connect(self.engine, dialect))
                stack.enter_context(dialect.prepared(connection))
                with dialect.transaction(connection, write=False):
                    dialect.check_database(connection)
            yield connection, dialect

    @contextmanager
    def table(self, names: Names, *, where: str | None = None) -> Iterator[TableSession]:
        """Open a session on a table."""
        from callstats.db.query import TableSession

        with self.session() as (connection, dialect):
            yield TableSession(connection, dialect, names, where=where)

    @contextmanager
    def writing(self, *, create: bool = False) -> Iterator[tuple[Connection, Dialect]]:
        """Open a session that is one writing transaction."""
        with self.session(create=create) as (connection, dialect), dialect.transaction(connection, write=True):
            yield connection, dialect

    def close(self) -> None:
        """Dispose of the engine, unless it is the caller's."""
        if self._owns_engine:
            self.engine.dispose()


@contextmanager
def translated(dialect: Dialect, prefix: str = "", *, wrong_use: bool = True) -> Iterator[None]:
    """Raise a driver's error as one of ours: one line, without SQL, blobs and passwords."""
    from sqlalchemy.exc import DBAPIError

    expected: tuple[type[Exception], ...] = (DBAPIError, *dialect.driver_errors())
    try:
        yield
    except expected as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        kinds: dict[type[CallstatsError], bool] = {
            WrongUseError: wrong_use and dialect.is_among(cause, dialect.wrong_use),
            ConnectionLostError: dialect.is_among(cause, dialect.lost) or getattr(error, "connection_invalidated", False),
            TimedOutError: dialect.is_among(cause, dialect.timed_out),
            TransientError: dialect.is_among(cause, dialect.transient),
        }
        kind = next((kind for kind, fits in kinds.items() if fits), DatabaseError)
        raise kind(f"{prefix}{dialect.explain(cause)}") from None


def dialect_of(url: URL) -> Dialect:
    """Return a new dialect object for the database of a URL."""
    from callstats.db.dialects.mysql import MySQL
    from callstats.db.dialects.postgres import Postgres
    from callstats.db.dialects.sqlite import SQLite

    dialects: dict[str, type[Dialect]] = {"sqlite": SQLite, "postgresql": Postgres, "mysql": MySQL, "mariadb": MySQL}
    name = url.get_backend_name()
    if name not in dialects:
        raise ArgumentError("url_or_engine", "for SQLite, PostgreSQL or MySQL", _Hidden(f"a URL for {name!r}"))
    dialect = dialects[name]()
    driver = url.drivername.partition("+")[2]
    if driver and driver != dialect.driver:
        raise ArgumentError("url_or_engine", f"for {dialect.name}'s driver {dialect.driver}", _Hidden(f"a URL for {driver!r}"))
    return dialect


def parse_url(source: str | os.PathLike[str] | URL) -> URL:
    """Return the SQLAlchemy URL for a text, a path or a URL.

    The text after ``sqlite3://`` is a plain path, as in Fn: ``sqlite3:///app/data/fn.db`` is ``/app/data/fn.db``. In SQLAlchemy's
    ``sqlite:///`` the path is relative.
    """
    from sqlalchemy.engine import URL, make_url
    from sqlalchemy.exc import ArgumentError as BadURL

    if isinstance(source, URL):
        return source
    if not isinstance(source, (str, os.PathLike)):
        raise ArgumentError("url_or_engine", "a database URL, the path of an SQLite file, or an Engine", source)
    text = os.fspath(source)
    scheme, mark, rest = text.partition("://")
    example = "sqlite:///calls.db or postgresql://user:password@host/database"
    if not mark or not isinstance(source, str):
        if not text:
            raise ArgumentError("url_or_engine", "a database URL or the path of an SQLite file", text)
        if isinstance(source, str) and _CREDENTIALS.match(text) and not os.path.exists(text):  # noqa: PTH110 - it takes any text
            raise ArgumentError("url_or_engine", f"a database URL such as {example}", _Hidden("one without a scheme"))
        return URL.create("sqlite", database=text)
    try:
        if scheme == "sqlite3":
            return make_url(f"sqlite:///{rest}")
        if scheme == "mysql":
            rest = _GO_ADDRESS.sub(r"@\1", rest)
        url = make_url(f"{_DRIVERS.get(scheme, scheme)}://{rest}")
        if scheme != "sqlite" and ("@" in (url.host or "") or _CREDENTIALS.match(url.database or "")):
            raise BadURL  # a password with an @, or one slash too many: a server would repeat a part of it
    except (BadURL, ValueError):  # their texts may contain the whole URL
        hint = "an @ in a password is written as %40"
        raise ArgumentError("url_or_engine", f"a database URL such as {example}", _Hidden("a malformed one"), hint=hint) from None
    return url


def shown_url(source: str | os.PathLike[str] | URL) -> str:
    """Return a URL for display, with passwords as ``***``, in its query too. An SQLite file is shown as its path."""
    url = parse_url(source)
    if url.get_backend_name() == "sqlite":
        return url.database or ":memory:"
    hidden = {name: "***" for name in url.query if _SECRET.search(name)}
    shown = url.update_query_dict(hidden).render_as_string(hide_password=True)
    return shown.replace("%2A%2A%2A", "***")


def hide_passwords(text: str, *given: str) -> str:
    """Return a text with ``***`` for the passwords of these URLs, of which it may quote the beginning only."""
    for url in given:
        credentials = _CREDENTIALS.match(url)
        found = [credentials] if credentials else []
        found += [one for one in _QUERY.finditer(url) if _SECRET.search(one["name"])]
        for one in found:
            secret = one[one.lastgroup or 0]
            before = url[: one.start(one.lastgroup or 0)]
            for shown in range(len(secret), 0, -1):
                text = text.replace(before + secret[:shown], f"{before}***")
            if len(secret) > _SHORT_SECRET:
                text = text.replace(secret, "***")
    return text


class _Hidden:
    """Stands for a URL in an error, which must not show it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _create_engine(url: URL) -> Engine:
    from sqlalchemy.engine import create_engine
    from sqlalchemy.exc import ArgumentError as BadURL
    from sqlalchemy.exc import NoSuchModuleError, SAWarning

    dialect = dialect_of(url)
    try:
        with warnings.catch_warnings(), needs("connect", dialect.extra):
            warnings.simplefilter("error", SAWarning)  # about options that SQLAlchemy would ignore
            return create_engine(url, **dialect.engine_options(url))
    except SAWarning:
        options = _Hidden(", ".join(sorted(url.query)))
        raise ArgumentError("url_or_engine", f"a {dialect.name} URL with options that its driver knows", options) from None
    except (BadURL, NoSuchModuleError, TypeError, ValueError):  # their texts may contain the whole URL
        raise ArgumentError("url_or_engine", f"a {dialect.name} URL as SQLAlchemy reads it", _Hidden("a malformed one")) from None


def _connect(engine: Engine, dialect: Dialect) -> Connection:
    try:
        return engine.connect()
    except (TypeError, ValueError, RuntimeError) as error:  # an option in the URL that the driver doesn't know, or a package
        options = _Hidden(" ".join(str(error).split()))
        raise ArgumentError("url_or_engine", f"a {dialect.name} URL with options that its driver knows", options) from None


@contextmanager
def _without_secrets(url: URL) -> Iterator[None]:
    """Remove the URL's passwords from the text of an error, in case a driver has quoted them."""
    given = [url.password, *(value for name, value in url.query.items() if _SECRET.search(name))]
    secrets = [re.escape(str(secret)) for secret in given if secret]
    try:
        yield
    except CallstatsError as error:
        text = str(error)
        for secret in secrets:
            text = re.sub(secret if len(secret) > _SHORT_SECRET else rf"(?<!\w){secret}(?!\w)", "***", text)
        if text == str(error):
            raise
        error.args = (text,)
        raise error from None
