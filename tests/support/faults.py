"""What happens to servers in the middle of a job: ended sessions, restarts, time limits."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pymysql
import pytest

from support.databases import Database

KILL_OTHERS = {
    "postgres": (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    ),
    "mysql": "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()",
}

_KILLING = threading.Lock()


def kill_others(database: Database) -> None:
    """End every other session in the database, but none of another thread that does so too."""
    with _KILLING:
        for (session,) in database.ask(KILL_OTHERS[database.kind]):
            if database.kind == "mysql":
                with suppress(pymysql.OperationalError):  # one that is ending by itself
                    database.ask(f"KILL {session}")


def restarted(database: Database, seconds: float) -> Callable[[], None]:
    """Kill the server as a machine that goes down would, and start it again after some time."""
    assert database.server is not None
    process = database.server.process
    if process is None:
        pytest.skip("the server is not these tests' own")

    def restart() -> None:
        process.stop(signal.SIGQUIT if database.kind == "postgres" else signal.SIGKILL)
        threading.Timer(seconds, process.start).start()

    return restart


SLOW = {
    "postgres": [
        ("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep({seconds}); RETURN new; END $$"),
        "CREATE TRIGGER slow BEFORE UPDATE ON calls FOR EACH ROW EXECUTE FUNCTION slow()",
    ],
    "mysql": ["CREATE TRIGGER slow BEFORE UPDATE ON calls FOR EACH ROW DO SLEEP({seconds})"],
}


@contextmanager
def time_limit(database: Database) -> Iterator[None]:
    """The server ends each statement of a new session that takes longer than a second."""
    postgres = database.kind == "postgres"
    database.ask(
        f"ALTER DATABASE {database.name} SET statement_timeout = '1s'" if postgres else "SET GLOBAL max_statement_time = 1"
    )
    try:
        yield
    finally:
        if not postgres:
            database.ask("SET GLOBAL max_statement_time = 0")
