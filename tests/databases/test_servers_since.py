"""--since on every database: old rows aren't read, and none that came since is missed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from callstats.db.jobs import summarize as job
from callstats.db.query import TableSession
from support.database import blob
from support.databases import Database
from support.tables import summarize_table

SINCE = datetime(2026, 11, 20, 12, tzinfo=UTC)
NS = int(SINCE.timestamp()) * 10**9

PLAIN = {
    "old": "2020-01-01 00:00:00",
    "day": "2026-11-18 23:59:59",
    "before": "2026-11-20 11:59:59",
    "at": "2026-11-20 12:00:00",
    "after": "2026-11-25 00:00:00",
}
TEXTS = {
    "old": "2020-01-01T00:00:00Z",
    "old compact": "20191231T235959Z",
    "before": "2026-11-20T13:59:59.999+02:00",
    "at": "2026-11-20T12:00:00Z",
    "far west": "2026-11-19T12:01:00-23:59",
    "far east": "2026-11-21T11:59:00+23:59",
    "compact": "20261121T000000Z",
    "week": "2026-W48-1",
    "date": "2026-11-21",
    "lower": "2026-11-21 00:00:00",
    "none": "soon",
}
TYPES = {
    "text": {"sqlite": "TEXT", "postgres": "TEXT", "mysql": "VARCHAR(99) CHARACTER SET latin1"},
    "other order": {
        "sqlite": "TEXT COLLATE NOCASE",
        "postgres": 'TEXT COLLATE "en-x-icu"',
        "mysql": "TEXT COLLATE utf8mb4_german2_ci",
    },
    "zoned": {"postgres": "TIMESTAMPTZ", "mysql": "TIMESTAMP NULL"},
    "plain": {"postgres": "TIMESTAMP", "mysql": "DATETIME"},
    "date": {"postgres": "DATE", "mysql": "DATE"},
    "number": {"sqlite": "INTEGER", "postgres": "BIGINT", "mysql": "BIGINT"},
}


def of_kind(kind: str, database: Database) -> tuple[dict[str, Any], set[str], int]:
    """Times by key; the keys of those that came since; how many rows at most are worth reading, with the one of NULL."""
    if "text" in kind or kind == "other order":
        return TEXTS, {"at", "far west", "far east", "compact", "week", "date", "lower"}, len(TEXTS) - 1
    if kind == "number":
        return {"old": 1_600_000_000, "at": NS // 10**9, "ms": NS // 10**6, "before": NS // 10**9 - 1}, {"at", "ms"}, 5
    zone = "+00" if kind == "zoned" and database.kind == "postgres" else ""
    if kind == "date":
        return {key: time[:10] for key, time in PLAIN.items()}, {"after"}, 4
    return {key: time + zone for key, time in PLAIN.items()}, {"at", "after"}, 4


@pytest.mark.parametrize("kind", list(TYPES))
def test_old_rows_stay_unread(database: Database, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is that of a pass over all rows, but the database leaves most of the old ones out."""
    if database.kind not in TYPES[kind]:
        pytest.skip("all of its times are text or numbers")
    times, recent, most = of_kind(kind, database)
    rows = [(key, blob(3), time) for key, time in times.items()]
    rows += [(f"older {i}", blob(3), times["old"]) for i in range(50)]
    rows += [("null", blob(3), None)]
    database.make(rows, more=f", created_at {TYPES[kind][database.kind]}", columns="id, stats, created_at")
    read: list[str] = []

    def watched(*given: Any, **options: Any) -> Iterator[tuple[Any, ...]]:
        for row in real(*given, **options):
            read.append(row[0])
            yield row

    real = TableSession.scan
    monkeypatch.setattr(TableSession, "scan", watched)
    found = summarize_table(database.url, by="id", since=NS)
    assert {group.name for group in found.groups} == recent
    assert found.untimed == len({"null", "none"} & {*read})
    assert recent <= {*read}
    assert len(read) <= (most if kind != "number" else len(rows))
    monkeypatch.setattr(job, "recent_calls", lambda *_: None)
    read.clear()
    whole = summarize_table(database.url, by="id", since=NS)
    assert (whole.groups, whole.untimed, len(read)) == (found.groups, found.untimed, len(rows))
