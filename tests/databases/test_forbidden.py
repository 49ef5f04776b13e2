"""What a session may not do is told at once and by name, in a dry run too: wrong use, and nothing is changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from callstats import CallstatsError, Rule
from callstats.db import DatabaseError, connect
from support.database import blob
from support.databases import Database
from support.tables import reduce_table, restore_table, summarize_table

RULE = Rule(10, how="mean")
_USERS = count(1)


class User:
    """A user of a server with no privileges at first."""

    def __init__(self, database: Database) -> None:
        assert database.server is not None
        self.database = database
        self.name = f"user_{os.getpid()}_{next(_USERS)}"
        postgres = database.kind == "postgres"
        self.account = self.name if postgres else f"{self.name}@'%'"
        database.ask(f"CREATE USER {self.name} PASSWORD 'pw'" if postgres else f"CREATE USER {self.account} IDENTIFIED BY 'pw'")
        address = database.server.address
        self.url = database.url.replace(f"{address['user']}:{address['password']}@", f"{self.name}:pw@")

    def may(self, *privileges: str, table: str = "calls") -> None:
        """Grant privileges on a table."""
        for privilege in privileges:
            self.database.ask(f"GRANT {privilege} ON {table} TO {self.account}")


@pytest.fixture
def user(on_server: Database) -> Iterator[User]:
    """A new user, dropped afterwards."""
    one = User(on_server)
    yield one
    if on_server.kind == "postgres":
        on_server.ask(f"DROP OWNED BY {one.name}")
    on_server.ask(f"DROP USER {one.account}")


def check(url: str, reason: str, *, saved: Path | None = None, **options: Any) -> None:
    """A run, a dry run and an import are wrong use, for this reason."""
    for run in (
        lambda: reduce_table(url, RULE, **options),
        lambda: reduce_table(url, RULE, dry_run=True, **options),
        *([lambda: restore_table(url, saved)] if saved else []),
    ):
        with pytest.raises(CallstatsError, match=reason) as caught:
            run()
        assert not isinstance(caught.value, DatabaseError)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A file to import."""
    file = tmp_path / "old.jsonl"
    file.write_text('{"key":"a","stats":""}\n')
    return file


def test_a_missing_privilege(on_server: Database, user: User, saved: Path) -> None:
    """To update the histograms, or to read a column; what is asked for, and no more, is enough."""
    on_server.make([("a", blob(12)), ("b", blob(9))], more=", created_at VARCHAR(99)")
    on_server.ask("UPDATE calls SET created_at = '2020-01-01'")
    user.may("SELECT (id, stats)")
    check(user.url, r"^table must be one that this session may update, got 'calls': .*UPDATE.*(stats|calls)", saved=saved)
    user.may("UPDATE (status)")
    check(user.url, r"^table must be one that this session may update, got 'calls': .*UPDATE.*(stats|calls)", saved=saved)
    user.may("UPDATE (stats)")
    from datetime import timedelta

    with pytest.raises(CallstatsError, match="denied"):
        reduce_table(user.url, Rule(None, how="mean"), tiers=[(timedelta(7), 10)])
    assert reduce_table(user.url, RULE, save=saved.with_name("new.jsonl")).changed == 1
    assert restore_table(user.url, saved).restored == 1
    assert on_server.cells() == {"a": "", "b": blob(9)}


def test_no_privilege_to_read(on_server: Database, user: User) -> None:
    """The database's own words name the table or the column."""
    on_server.make([("a", blob(12))])
    user.may("SELECT (id)", "UPDATE")
    check(user.url, "denied .*(calls|stats)")


def test_privileges_of_a_role_count(on_server: Database, user: User) -> None:
    """As the server counts them."""
    on_server.make([("a", blob(12))])
    role = f"role_of_{user.name}"
    on_server.ask(f"CREATE ROLE {role}")
    try:
        on_server.ask(f"GRANT SELECT, UPDATE ON calls TO {role}")
        on_server.ask(f"GRANT {role} TO {user.account}")
        if on_server.kind == "mysql":
            on_server.ask(f"SET DEFAULT ROLE {role} FOR {user.account}")
        assert reduce_table(user.url, RULE).changed == 1
    finally:
        on_server.ask(f"REVOKE ALL ON calls FROM {role}")
        on_server.ask(f"DROP ROLE {role}")


def test_a_read_only_session(on_server: Database, user: User, saved: Path) -> None:
    """As replicas have them; reading goes on."""
    on_server.make([("a", blob(12))])
    user.may("SELECT", "UPDATE")
    if on_server.kind == "postgres":
        on_server.ask(f"ALTER ROLE {user.name} SET default_transaction_read_only = on")
        reason = "default_transaction_read_only is on"
    else:
        on_server.ask("SET GLOBAL read_only = ON")
        reason = "read-only"
    try:
        check(user.url, f"^table must be one that this session may update, got 'calls': .*{reason}", saved=saved)
        assert summarize_table(user.url).calls == 1
    finally:
        if on_server.kind == "mysql":
            on_server.ask("SET GLOBAL read_only = OFF")
    assert on_server.cells() == {"a": blob(12)}


@pytest.mark.parametrize("policies", [
    ["FOR SELECT USING (true)"],
    ["FOR SELECT USING (true)", "FOR UPDATE USING (status = 'mine')"],
    ["FOR ALL USING (true)", "AS RESTRICTIVE FOR UPDATE USING (status = 'mine')"],
    ["FOR ALL USING (true)", "AS RESTRICTIVE FOR UPDATE USING (true) WITH CHECK (status = 'mine')"],
])  # fmt: skip
def test_row_security_that_forbids_some_updates(postgres: Database, policies: list[str]) -> None:
    """A row that is seen but may not be updated is wrong use at once; `where` can leave it out."""
    user = User(postgres)
    postgres.make([("a", "mine", blob(12)), ("b", "theirs", blob(12)), ("c", None, blob(12))], columns="id, status, stats")
    user.may("SELECT", "UPDATE")
    try:
        postgres.ask("ALTER TABLE calls ENABLE ROW LEVEL SECURITY")
        for i, policy in enumerate(policies):
            kind, rest = ("AS RESTRICTIVE ", policy.removeprefix("AS RESTRICTIVE ")) if policy.startswith("AS") else ("", policy)
            postgres.ask(f"CREATE POLICY p{i} ON calls {kind}{rest}")
        reason = r"^table must be one that this session may update, got 'calls': row security forbids updates of the row '[abc]'"
        check(user.url, reason)
        if len(policies) > 1:
            assert reduce_table(user.url, RULE, where="status = 'mine'").changed == 1
        assert reduce_table(postgres.url, RULE, dry_run=True).changed == 3 - (len(policies) > 1)
    finally:
        postgres.ask(f"DROP OWNED BY {user.name}")
        postgres.ask(f"DROP USER {user.name}")


def test_row_security_that_hides_rows(postgres: Database) -> None:
    """Rows that are not seen are none; all that are may be updated."""
    user = User(postgres)
    postgres.make([("a", "mine", blob(12)), ("b", "theirs", blob(12))], columns="id, status, stats")
    user.may("SELECT", "UPDATE")
    try:
        postgres.ask("ALTER TABLE calls ENABLE ROW LEVEL SECURITY")
        postgres.ask("CREATE POLICY own ON calls USING (status = 'mine')")
        result = reduce_table(user.url, RULE)
        assert (result.changed, result.rows, result.stopped) == (1, 1, None)
    finally:
        postgres.ask(f"DROP OWNED BY {user.name}")
        postgres.ask(f"DROP USER {user.name}")


def test_a_read_only_file(tmp_path: Path, saved: Path) -> None:
    """By the URL, by a setting, or by the file's mode; for an import too."""
    from sqlalchemy import create_engine, event

    database = Database("sqlite", str(tmp_path / "calls.db"))
    database.make([("a", blob(12))])
    reason = "^table must be one that this session may update, got 'calls': "
    url = f"sqlite:///file:{quote(database.url)}?mode=ro&uri=true"
    check(url, reason + "the URL opens it to be read only", saved=saved)
    engine = create_engine(f"sqlite:///{database.url}")
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA query_only = 1"))
    check(engine, reason + "PRAGMA query_only is on", saved=saved)  # type: ignore[arg-type]
    engine.dispose()
    if os.geteuid():
        Path(database.url).chmod(0o444)
        check(database.url, reason + "this user may not write the file", saved=saved)
    assert summarize_table(url).calls == 1
    assert database.cells() == {"a": blob(12)}


# --- passwords ----------------------------------------------------------------------------------------------------------

SECRET = "s3kr3t-w0rd"
URLS = [
    f"fn:{SECRET}@db/funcs", f"fn:{SECRET}@db:5432/funcs", f"fn:{SECRET}@127.0.0.1:1", f"//fn:{SECRET}@127.0.0.1/d",
    f"fn:{SECRET}@db.db",
    f"postgres:/fn:{SECRET}@127.0.0.1:1/d", f"postgres:///fn:{SECRET}@127.0.0.1:1/d", f"postgres://fn:{SECRET}@127.0.0.1:x/d",
    f"postgres://fn:at@{SECRET}@127.0.0.1:1/d", f"postgres://fn:sl/{SECRET}@127.0.0.1:1/d", f"postgres://fn:{SECRET}",
    f"postgres://127.0.0.1:1/d?user=fn&password={SECRET}",
    f"mysql://fn:{SECRET}@tcp(127.0.0.1:1)/d", f"mysql://fn:{SECRET}@tcp(127.0.0.1:1)",
    f"mysql://fn:{SECRET}@127.0.0.1:1/d?no_such_option=1",
    f"oracle://fn:{SECRET}@127.0.0.1:1/d", f"jdbc:mysql://fn:{SECRET}@127.0.0.1/d",
    f"sqlite://fn:{SECRET}@127.0.0.1/d", f"postgres+asyncpg://fn:{SECRET}@127.0.0.1/d",
]  # fmt: skip
USES = [
    ["list", "{}"],
    ["reduce", "{}", "--max-samples", "10", "--retries", "0"],
    ["list", "calls.db", "{}"],
    ["list", "--limit", "{}"],
    ["reduce", "calls.db", "--max-samples", "9", "--tier", "{}"],
    ["import", "{}", "calls.db", "more"],
    ["import", "calls.db", "{}"],
    ["show", "{}", "{}", "{}"],
    ["{}"],
]


@pytest.mark.parametrize("use", USES, ids=lambda use: "-".join(use[:2]))
@pytest.mark.parametrize("url", URLS)
def test_no_message_shows_a_password(url: str, use: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is wrong with the URL, and wherever it stands: one line, and the code for what it is."""
    from click.testing import CliRunner

    from callstats.cli.app import cli

    monkeypatch.chdir(tmp_path)
    Database("sqlite", "calls.db").make([("a", blob(3))])
    result = CliRunner().invoke(cli, [part.format(url) for part in use], prog_name="callstats")
    told = result.stdout + result.stderr
    assert result.exit_code in (2, 3), told
    assert "Traceback" not in told
    parts = [SECRET[:i] for i in range(3, len(SECRET))] + [SECRET[-i:] for i in range(3, len(SECRET))]
    assert [part for part in parts if part in told] == []
    assert os.listdir() == ["calls.db"]  # noqa: PTH208 - its names alone


def test_a_file_may_have_such_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that exists, or begins with a folder, is no URL without its scheme."""
    monkeypatch.chdir(tmp_path)
    for path in ("./a:b@c.db", "a:b@c.db"):
        with connect(path) as calls:
            calls.create()
