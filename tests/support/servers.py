"""Real database servers: each on a folder, a socket and a loopback port of its own, stopped again by its process id.

`CALLSTATS_POSTGRES_URL` and `CALLSTATS_MYSQL_URL` name servers that are there already, to be used instead.
`CALLSTATS_REQUIRE_SERVERS=1` makes a missing one a failure.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

PASSWORD = "s3kr3t-w0rd"
_NUMBERS = count(1)

END_OTHERS = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""

ONLY_SCHEMAS = """
SELECT current_setting('server_version_num')::int >= 150000
    AND (SELECT count(*) FROM pg_extension) = 1
    AND (SELECT count(*) FROM pg_language) = 4
    AND (SELECT datacl IS NULL AND encoding = pg_char_to_encoding('UTF8') FROM pg_database WHERE datname = current_database())
    AND NOT EXISTS (
        SELECT FROM pg_db_role_setting WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()))
    AND NOT EXISTS (SELECT FROM pg_event_trigger)
    AND NOT EXISTS (SELECT FROM pg_largeobject_metadata)
    AND NOT EXISTS (SELECT FROM pg_default_acl)
    AND NOT EXISTS (SELECT FROM pg_publication)
    AND NOT EXISTS (SELECT FROM pg_foreign_data_wrapper)
"""
"""Whether a database of PostgreSQL is as a new one, but for what its schemas hold."""

NEW_SCHEMAS = r"""
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema'
    LOOP EXECUTE format('DROP SCHEMA %I CASCADE', name); END LOOP;
    CREATE SCHEMA public AUTHORIZATION pg_database_owner;
    GRANT USAGE ON SCHEMA public TO PUBLIC;
END $$
"""


class Server:
    """A running server, in which each test gets a database of its own."""

    def __init__(self, kind: str, address: dict[str, Any], process: Process | None = None) -> None:
        self.kind = kind
        self.address = address
        self.process = process
        self.empty: list[str] = []

    def connect(self, database: str | None, **options: Any) -> Any:
        """A connection of the driver's that commits each statement."""
        address = self.address | ({} if database is None else {"database": database})
        if self.kind == "postgres":
            import psycopg

            address["dbname"] = address.pop("database")
            return psycopg.connect(**address, autocommit=True, **options)
        import pymysql

        return pymysql.connect(**address, autocommit=True, binary_prefix=True, ssl_disabled=True, **options)

    def new_database(self) -> str:
        """Make an empty database, or take one that was emptied: PostgreSQL copies a thousand files for each."""
        if self.empty:
            return self.empty.pop()
        name = f"calls_{os.getpid()}_{next(_NUMBERS)}"
        self._run(f"CREATE DATABASE {name}" + ("" if self.kind == "postgres" else " CHARACTER SET utf8mb4"))
        return name

    def drop_database(self, name: str) -> None:
        """Empty it for another test or drop it, whoever is still connected."""
        if self.kind == "postgres" and self.process is not None and self._emptied(name):
            self.empty.append(name)
            return
        self._run(f"DROP DATABASE {name}" + (" WITH (FORCE)" if self.kind == "postgres" else ""))

    def _emptied(self, name: str) -> bool:
        with self.connect(name) as connection:
            connection.execute(END_OTHERS)
            if not connection.execute(ONLY_SCHEMAS).fetchone()[0]:
                return False
            connection.execute(NEW_SCHEMAS)
            return True

    def url(self, database: str) -> str:
        """Its URL, as users write it."""
        scheme = "postgres" if self.kind == "postgres" else "mysql"
        user, password, host, port = (self.address[name] for name in ("user", "password", "host", "port"))
        return f"{scheme}://{user}:{password}@{host}:{port}/{database}"

    def _run(self, statement: str) -> None:
        connection = self.connect(None)
        try:
            connection.cursor().execute(statement)
        finally:
            connection.close()


class Process:
    """A server's process, which can be ended and started again."""

    def __init__(self, command: list[str], user: str | None, folder: Path) -> None:
        self.command = command
        self.user = user
        self.folder = folder
        self.running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it may take a while until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.running = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, **as_user(self.user)
            )

    def stop(self, number: int) -> None:
        """Send a signal that ends it, and wait."""
        assert self.running is not None
        self.running.send_signal(number)
        try:
            self.running.wait(60)
        except subprocess.TimeoutExpired:
            self.running.kill()
            self.running.wait()

    def wait_until(self, answers: Callable[[], Any]) -> None:
        """Wait until a connection can be made."""
        end = time.monotonic() + 60
        while True:
            try:
                answers().close()
                return
            except Exception:  # noqa: BLE001 - of either driver, or the system's
                assert self.running is not None
                if self.running.poll() is not None or time.monotonic() > end:
                    raise RuntimeError((self.folder / "log").read_text(errors="replace")[-4000:]) from None
                time.sleep(0.05)


def as_user(user: str | None) -> dict[str, Any]:
    """Arguments for `Popen`: a server refuses to run as root, and PostgreSQL hangs under a sanitizer meant for Python."""
    env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    if user is None or os.geteuid() != 0:
        return {"env": env}
    entry = pwd.getpwnam(user)
    return {"env": env, "user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def free_port() -> int:
    """A port of the loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str, *folders: str) -> str | None:
    """Where a program is."""
    return shutil.which(name) or next(
        (str(path) for folder in folders for path in sorted(Path("/").glob(f"{folder}/{name}"), reverse=True)), None
    )


def _missing(package: str) -> None:
    text = f"no server here: apt-get install {package}"
    if os.environ.get("CALLSTATS_REQUIRE_SERVERS", "0") == "1":
        pytest.fail(text)
    pytest.skip(text)


def _there(kind: str, url: str) -> Server:
    parts = urlsplit(url)
    address = {"host": parts.hostname, "port": parts.port, "user": parts.username, "password": parts.password}
    return Server(kind, address | ({"database": parts.path.strip("/")} if kind == "postgres" else {}))


def _folder(user: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="callstats-"))
    if os.geteuid() == 0:
        shutil.chown(folder, user, pwd.getpwnam(user).pw_gid)
    return folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """PostgreSQL."""
    yield from run_postgres()


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[Server]:
    """MariaDB, or MySQL."""
    yield from run_mysql()


def run_postgres() -> Iterator[Server]:
    """PostgreSQL, as long as the iterator is not closed."""
    if url := os.environ.get("CALLSTATS_POSTGRES_URL"):
        yield _there("postgres", url)
        return
    initdb = program("initdb", "usr/lib/postgresql/*/bin")
    if initdb is None:
        _missing("postgresql")
        return
    folder = _folder("postgres")
    try:
        data, secret = folder / "data", folder / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        options = ["--username=callstats", f"--pwfile={secret}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
        subprocess.run(
            [initdb, "-D", str(data), "--no-sync", *options],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            **as_user("postgres"),
        )
        port = free_port()
        command = [str(Path(initdb).resolve().with_name("postgres")), "-D", str(data), "-p", str(port), "-k", str(folder)]
        command += ["-c", "fsync=off", "-c", "listen_addresses=127.0.0.1"]
        address = {"host": "127.0.0.1", "port": port, "user": "callstats", "password": PASSWORD, "database": "postgres"}
        yield from _run(Server("postgres", address, Process(command, "postgres", folder)), signal.SIGINT)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_mysql() -> Iterator[Server]:
    """MariaDB or MySQL, as long as the iterator is not closed."""
    if url := os.environ.get("CALLSTATS_MYSQL_URL"):
        yield _there("mysql", url)
        return
    install, daemon = program("mariadb-install-db"), program("mariadbd", "usr/sbin", "usr/libexec")
    if install is None or daemon is None:
        _missing("mariadb-server")
        return
    folder = _folder("mysql")
    try:
        data, port = folder / "data", free_port()
        init = folder / "init.sql"
        users = [f"callstats@'{host}'" for host in ("%", "localhost", "127.0.0.1")]
        made = [
            f"CREATE USER IF NOT EXISTS {user} IDENTIFIED BY '{PASSWORD}';\nGRANT ALL ON *.* TO {user} WITH GRANT OPTION;\n"
            for user in users
        ]
        init.write_text("".join(made))  # a line for each statement
        init.chmod(0o644)
        command = [install, "--no-defaults", f"--datadir={data}", "--skip-test-db", "--auth-root-authentication-method=normal"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, **as_user("mysql"))
        assert done.returncode == 0, done.stdout + done.stderr
        command = [
            daemon,
            "--no-defaults",
            f"--datadir={data}",
            f"--port={port}",
            f"--socket={folder}/socket",
            f"--tmpdir={folder}",
        ]
        command += ["--bind-address=127.0.0.1", f"--pid-file={folder}/pid", f"--init-file={init}", "--skip-name-resolve"]
        command += ["--innodb-buffer-pool-size=128M", "--innodb-flush-log-at-trx-commit=2", "--skip-log-bin"]
        address = {"host": "127.0.0.1", "port": port, "user": "callstats", "password": PASSWORD}
        yield from _run(Server("mysql", address, Process(command, "mysql", folder)), signal.SIGTERM)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(server: Server, stop: int) -> Iterator[Server]:
    assert server.process is not None
    server.process.start()
    try:
        server.process.wait_until(lambda: server.connect(None))
        yield server
    finally:
        with suppress(ProcessLookupError):
            server.process.stop(stop)


@contextmanager
def pooled(server: Server, database: str) -> Iterator[str]:
    """A URL of PgBouncer before a PostgreSQL: each transaction gets any of its sessions, even of earlier clients."""
    bouncer = program("pgbouncer", "usr/sbin")
    if bouncer is None:
        _missing("pgbouncer")
        return
    folder = _folder("postgres")
    try:
        user, password, port = server.address["user"], server.address["password"], free_port()
        users, config = folder / "users", folder / "ini"
        users.write_text(f'"{user}" "{password}"\n')
        config.write_text(
            f"[databases]\n{database} = host={server.address['host']} port={server.address['port']}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\npool_mode = transaction\n"
            f"auth_type = plain\nauth_file = {users}\ndefault_pool_size = 3\nserver_round_robin = 1\n"
        )
        for file in (users, config):
            file.chmod(0o644)
        through = Server(
            "postgres", server.address | {"port": port, "database": database}, Process([bouncer, str(config)], "postgres", folder)
        )
        for running in _run(through, signal.SIGINT):
            yield running.url(database)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
