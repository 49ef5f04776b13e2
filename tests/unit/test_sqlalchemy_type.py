"""StatsType: series as the values of a SQLAlchemy column."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, create_engine, insert, select, text
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateTable

from callstats import DecodeError, StatSeries
from callstats.adapters.sqlalchemy import StatsType
from callstats.db.engine import parse_url
from support.databases import Database
from support.zoo import zoo

EMPTY = StatSeries([], {})
SERIES = StatSeries([0, 10**9], {"x": [2**64 - 1, None], "é<": [1, 2]}, counts=[2**40, 1])


class Base(DeclarativeBase):
    """The models."""


class Call(Base):
    """A call with its series."""

    __tablename__ = "calls"
    id: Mapped[int] = mapped_column(primary_key=True)
    stats: Mapped[StatSeries | None] = mapped_column(StatsType)


@pytest.fixture
def engine() -> Any:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def test_series_come_back(engine: Engine) -> None:
    """What a session stores it reads again, the text being that of `to_db`."""
    written = [StatSeries.from_json(item.series().to_json()) for item in zoo()]  # to the millisecond
    stored = [SERIES, *written]
    with Session(engine) as session:
        session.add_all(Call(id=i, stats=series) for i, series in enumerate(stored))
        session.commit()
    with Session(engine) as session:
        calls = session.scalars(select(Call).order_by(Call.id)).all()
        assert [call.stats for call in calls] == stored
        raw = session.execute(text("SELECT stats FROM calls ORDER BY id")).scalars().all()
        assert raw == [series.to_db() for series in stored]


def test_nothing_and_empty(engine: Engine) -> None:
    """None is NULL and an empty series empty text; NULL, empty text, null and [] are read as the empty series."""
    with Session(engine) as session:
        session.add_all([Call(id=1, stats=None), Call(id=2, stats=EMPTY)])
        session.commit()
        assert session.execute(text("SELECT id, stats FROM calls ORDER BY id")).all() == [(1, None), (2, "")]
        session.execute(text("INSERT INTO calls VALUES (3, 'null'), (4, '[]')"))
        session.expire_all()
        assert [call.stats for call in session.scalars(select(Call))] == [EMPTY] * 4
        assert session.scalars(select(Call.id).where(Call.stats.is_(None))).all() == [1]


def test_a_change_is_a_new_value(engine: Engine) -> None:
    """Setting an equal series is no change, setting another is, and a comparison is that of the text."""
    with Session(engine) as session:
        session.add(Call(id=1, stats=SERIES))
        session.commit()
        [call] = session.scalars(select(Call).where(Call.stats == SERIES))
        call.stats = StatSeries.from_db(SERIES.to_db())
        assert not session.is_modified(call)
        call.stats = SERIES[:1]
        assert session.is_modified(call)
        session.commit()
        assert session.scalars(select(Call.stats)).one() == SERIES[:1]


def test_what_is_refused(engine: Engine) -> None:
    """What is no series is not stored, and a bad blob is refused by its path when it is read."""
    with engine.connect() as connection, pytest.raises(Exception, match="value must be a StatSeries or None, got 'text'"):
        connection.execute(insert(Call.__table__), [{"id": 1, "stats": "text"}])
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO calls VALUES (1, '[1]')"))
        with pytest.raises(DecodeError, match=r"\$\[0\]: expected an object, got 1"):
            connection.execute(select(Call.__table__)).all()


def test_columns_of_each_database() -> None:
    """The column is TEXT, and JSONB where that is asked for on PostgreSQL."""
    table = Table("calls", MetaData(), Column("id", Integer), Column("a", StatsType), Column("b", StatsType(jsonb=True)))
    for dialect, kinds in ((sqlite, ("TEXT", "TEXT")), (mysql, ("TEXT", "TEXT")), (postgresql, ("TEXT", "JSONB"))):
        made = str(CreateTable(table).compile(dialect=dialect.dialect()))
        assert f"a {kinds[0]}, \n\tb {kinds[1]}" in made
    assert StatsType().python_type is StatSeries


def test_jsonb_is_bound_as_json() -> None:
    """A JSONB column takes parsed JSON, whole numbers whole, and gives its series back."""
    kind, dialect = StatsType(jsonb=True), postgresql.dialect()
    bound = kind.process_bind_param(SERIES, dialect)
    assert bound[0]["metrics"]["x"] == 2**64 - 1
    assert kind.process_result_value(bound, dialect) == SERIES
    assert kind.process_bind_param(EMPTY, dialect) == []
    assert kind.process_bind_param(None, dialect) is None
    assert kind.process_result_value(None, dialect) == EMPTY
    bind = kind.bind_processor(dialect)
    assert bind is not None
    assert bind(None) is None
    assert kind.process_bind_param(SERIES, sqlite.dialect()) == SERIES.to_db()


@pytest.mark.parametrize("jsonb", [False, True])
def test_on_a_server(on_server: Database, jsonb: bool) -> None:
    """Text and JSONB give all series back; SQL looks into JSONB; NULL, empty and a comparison are as they say."""
    metadata = MetaData()
    calls = Table("calls", metadata, Column("id", Integer, primary_key=True), Column("stats", StatsType(jsonb=jsonb)))
    texts = [item.series().to_json() for item in zoo()]
    stored = [SERIES, EMPTY, None, *(StatSeries.from_json(text) for text in texts if len(text) < 2**16)]  # TEXT of MySQL's
    engine = create_engine(parse_url(on_server.url))
    try:
        metadata.create_all(engine)
        with engine.begin() as connection:
            connection.execute(insert(calls), [{"id": i, "stats": series} for i, series in enumerate(stored, 1)])
        with engine.connect() as connection:
            found = connection.execute(select(calls.c.stats).order_by(calls.c.id)).scalars().all()
            assert found == [EMPTY if series is None else series for series in stored]
            assert connection.execute(select(calls.c.id).where(calls.c.stats.is_(None))).scalars().all() == [3]
            assert 1 in connection.execute(select(calls.c.id).where(calls.c.stats == SERIES)).scalars().all()
            if jsonb and on_server.kind == "postgres":
                query = "SELECT stats -> 0 -> 'metrics' ->> 'x', jsonb_typeof(stats) FROM calls WHERE id = 1"
                assert connection.execute(text(query)).one() == (str(2**64 - 1), "array")
    finally:
        engine.dispose()
