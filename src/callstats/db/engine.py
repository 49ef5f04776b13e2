"""Connections to databases, and their errors as ours: in one line, without SQL, cells and passwords."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.engine import URL, Connection, Engine, create_engine
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SAWarning

from callstats.db.dialects.base import Dialect
from callstats.db.dialects.mysql import MySQL
from callstats.db.dialects.postgres import Postgres
from callstats.db.dialects.sqlite import SQLite
from callstats.db.results import LostError, PassingError
from callstats.db.urls import parse_url, without_secrets
from callstats.errors import CallstatsError, DatabaseError

DIALECTS: dict[str, type[Dialect]] = {"sqlite": SQLite, "postgresql": Postgres, "mysql": MySQL, "mariadb": MySQL}
"""What is special to each database, by SQLAlchemy's name for it."""


@contextmanager
def connected(source: str | os.PathLike[str] | URL | Engine, *, create: bool = False) -> Iterator[tuple[Connection, Dialect]]:
    """A connection, ready for the dialect's transactions, to a database that must exist unless it may be created."""
    own = not isinstance(source, Engine)
    engine = source if isinstance(source, Engine) else _engine(parse_url(source), create=create)
    try:
        dialect = dialect_of(engine.url)
        with (
            without_secrets(engine.url),
            translated(dialect, setting_up=True),
            _opened(engine, dialect) as connection,
            dialect.prepared(connection),
        ):
            with dialect.transaction(connection, write=False):
                dialect.check_database(connection)
            yield connection, dialect
    finally:
        if own:
            engine.dispose()


@contextmanager
def writing(source: str | os.PathLike[str] | URL | Engine, *, create: bool = False) -> Iterator[tuple[Connection, Dialect]]:
    """The same, in one transaction that writes."""
    with connected(source, create=create) as (connection, dialect), dialect.transaction(connection, write=True):
        yield connection, dialect


@contextmanager
def translated(dialect: Dialect, where: str = "", *, setting_up: bool = True) -> Iterator[None]:
    """A driver's error as one of ours."""
    expected: tuple[type[Exception], ...] = (DBAPIError, *dialect.driver_errors())
    try:
        yield
    except expected as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if setting_up and dialect.is_wrong_use(cause):
            kind: type[CallstatsError] = CallstatsError
        elif dialect.is_lost(cause) or (isinstance(error, DBAPIError) and error.connection_invalidated):
            kind = LostError
        else:
            kind = PassingError if dialect.is_passing(cause) else DatabaseError
        raise kind(f"{where}{dialect.explain(cause)}") from None


def _opened(engine: Engine, dialect: Dialect) -> Connection:
    try:
        return engine.connect()
    except (TypeError, ValueError, RuntimeError) as error:  # an option in the URL that the driver doesn't know, or a package
        raise CallstatsError(f"expected a URL for {dialect.name}'s driver: {' '.join(str(error).split())}") from None


def _engine(url: URL, *, create: bool) -> Engine:
    dialect = dialect_of(url)
    if not create and (missing := dialect.missing_file(url)) is not None:
        raise CallstatsError(f"there is no {dialect.name} database {missing!r}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", SAWarning)  # of options that nobody would heed
            return create_engine(url, **dialect.engine_options(url))
    except SAWarning:
        options = ", ".join(sorted(url.query))
        raise CallstatsError(f"expected a URL for {dialect.name} whose options its driver knows, got {options}") from None
    except ModuleNotFoundError as error:
        raise ImportError(
            f'callstats.db needs {error.name} for {dialect.name}: pip install "callstats[{dialect.extra}]"'
        ) from None
    except (ArgumentError, NoSuchModuleError, TypeError, ValueError):  # their texts may hold the whole URL
        raise CallstatsError(f"expected a URL for {dialect.name} in SQLAlchemy's form") from None


def dialect_of(url: URL) -> Dialect:
    """What is special to the database of a URL."""
    name = url.get_backend_name()
    if name not in DIALECTS:
        known = ", ".join(dict.fromkeys(dialect.name for dialect in DIALECTS.values()))
        raise CallstatsError(f"callstats.db works over {known}, got a URL for {name!r}")
    dialect = DIALECTS[name]()
    driver = url.drivername.partition("+")[2]
    if driver and driver not in dialect.drivers:
        raise CallstatsError(f"callstats.db reaches {dialect.name} through {dialect.drivers[0]}, got a URL for {driver!r}")
    return dialect
