"""pandas and polars: series as frames, and stored histograms in their columns by Arrow."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given

from callstats import SeriesError, StatSeries, reduce_json
from callstats.adapters import arrow
from callstats.adapters import pandas as pandas_adapter
from callstats.adapters import polars as polars_adapter
from support import strategies
from support.reference import Row
from support.stored import good
from support.zoo import series_of, zoo

WAYS = [
    pytest.param(pandas_adapter.read, StatSeries.to_pandas, id="pandas"),
    pytest.param(polars_adapter.read, polars_adapter.write, id="polars"),
]
ODD = StatSeries([0, 0, 7], {"": [2**64 - 1, None, 0], "y@max": [None, None, 2**63]}, counts=[1, 2**40, 3])


@pytest.mark.parametrize(("read", "write"), WAYS)
@pytest.mark.parametrize("series", [ODD, *(item.series() for item in zoo())], ids=len)
def test_there_and_back(read: Callable[..., StatSeries], write: Callable[..., Any], series: StatSeries) -> None:
    """A series as a frame and back is the same to the bit, and the frame is the caller's to change."""
    frame = write(series)
    assert len(frame) == len(series)
    assert read(frame) == series


@given(strategies.rows(most=12))
def test_random_series(rows: list[Row]) -> None:
    """Random series pass through both unchanged."""
    series = series_of(rows)
    assert pandas_adapter.read(series.to_pandas()) == series
    assert polars_adapter.read(polars_adapter.write(series)) == series


def test_types_of_frames() -> None:
    """A frame of pandas has an index of times and nullable UInt64; one of polars times, UInt64 and nulls."""
    frame = ODD.to_pandas()
    assert frame.index.name == "timestamp"
    assert str(frame.index.dtype) == "datetime64[ns, UTC]"
    assert list(map(str, frame.dtypes)) == ["UInt64", "UInt64", "int64"]
    assert frame[""].iloc[1] is pd.NA
    frame.iloc[0, 0] = 5
    assert ODD[""][0] == 2**64 - 1
    table = polars_adapter.write(ODD)
    assert table.schema == {"timestamp": pl.Datetime("ns", "UTC"), "": pl.UInt64, "y@max": pl.UInt64, "count": pl.Int64}
    assert table[""].to_list() == [2**64 - 1, None, 0]


@pytest.mark.parametrize(("read", "write"), WAYS)
def test_counts_by_another_name(read: Callable[..., StatSeries], write: Callable[..., Any]) -> None:
    """A metric called count needs another name for the counts, and counts can be left out."""
    series = StatSeries([1, 2], {"count": [1, 2]}, counts=[5, 6])
    with pytest.raises(SeriesError, match="counts must be a name that no metric has, got 'count'"):
        write(series)
    assert read(write(series, counts="n"), counts="n") == series
    assert read(write(series, counts=None), counts=None) == StatSeries([1, 2], {"count": [1, 2]})


@pytest.mark.parametrize("series", [ODD, StatSeries([], {}), *(item.series() for item in zoo())], ids=len)
def test_to_pandas(series: StatSeries) -> None:
    """`to_pandas` gives nullable integers, times in UTC, and counts only where they say something."""
    frame = series.to_pandas()
    assert pandas_adapter.read(frame) == series
    assert str(frame.index.dtype) == "datetime64[ns, UTC]" and frame.index.name == "timestamp"
    counts = ["count"] if len(series) and series.counts.max() > 1 else []
    assert list(frame.columns) == [*series.names, *counts]
    assert {str(frame[name].dtype) for name in series.names} <= {"UInt64"}
    assert list(series.to_pandas(counts=None).columns) == list(series.names)


def test_to_pandas_and_a_metric_called_count() -> None:
    """The counts need another name then."""
    series = StatSeries([1, 2], {"count": [1, 2]}, counts=[5, 6])
    with pytest.raises(SeriesError, match=r"^counts must be a name that no metric has, got 'count'$"):
        series.to_pandas()
    assert series.to_pandas(counts="n")["n"].tolist() == [5, 6]


def test_pandas_frames_from_elsewhere() -> None:
    """Any zone and unit, floats with NaN for missing, objects, Arrow types and plain numbers of an index are read."""
    index = pd.DatetimeIndex(["2017-11-27 08:52:53", "2017-11-27 08:52:54"], tz="America/Chicago").as_unit("s")
    columns = {
        "a": [1.0, np.nan],
        "b": pd.Series([None, 2**64 - 1], dtype=object),
        "c": pd.array([3, None], dtype=pd.ArrowDtype(pa.int16())),
        "d": pd.array([None, None], dtype="UInt64"),
        "count": np.array([1, 2], np.uint8),
    }
    frame = pd.DataFrame({name: list(cells) if name == "b" else cells for name, cells in columns.items()}, index=index)
    frame["b"] = pd.Series([None, 2**64 - 1], dtype=object, index=index)
    first = 1_511_794_373 * 10**9
    times = [first, first + 10**9]
    want = StatSeries(times, {"a": [1, None], "b": [None, 2**64 - 1], "c": [3, None]}, counts=[1, 2])
    assert pandas_adapter.read(frame) == want
    assert pandas_adapter.read(frame.tz_convert("UTC").tz_localize(None)) == want
    assert pandas_adapter.read(frame.set_index(np.array(times))) == want


def bad_frames() -> list[tuple[ModuleType, Any]]:
    """Frames that no series can be made of."""
    twice = pd.DataFrame([[1, 2]], index=[5], columns=["x", "x"])
    return [
        (pandas_adapter, twice),
        (pandas_adapter, pd.DataFrame({"x": [1.5]}, index=[5])),
        (pandas_adapter, pd.DataFrame({"x": [-1]}, index=[5])),
        (pandas_adapter, pd.DataFrame({"x": ["1"]}, index=[5])),
        (pandas_adapter, pd.DataFrame({"x": [1, 2]}, index=[5, 4])),
        (pandas_adapter, pd.DataFrame({"x": [1]}, index=[pd.NaT])),
        (polars_adapter, pl.DataFrame({"x": [1]})),
        (polars_adapter, pl.DataFrame({"timestamp": [1], "x": [-1]})),
        (polars_adapter, pl.DataFrame({"timestamp": [1], "x": ["1"]})),
        (polars_adapter, pl.DataFrame({"timestamp": [1, None], "x": [1, 1]})),
        (polars_adapter, pl.DataFrame({"timestamp": [1, 2], "x": [True, False]})),
    ]


@pytest.mark.parametrize("number", range(len(bad_frames())))
def test_what_would_lose_a_bit_is_refused(number: int) -> None:
    """Frames that no series can be made of are refused, and so is what is no frame."""
    adapter, frame = bad_frames()[number]
    with pytest.raises(SeriesError):
        adapter.read(frame)
    with pytest.raises(TypeError, match="frame must be a DataFrame, got dict"):
        adapter.read({})


def test_polars_frames_from_elsewhere() -> None:
    """Other units, zones, integers and whole numbers for times are read; a column of nulls is no metric."""
    frame = pl.DataFrame(
        {
            "when": pl.Series([1_000, 2_000]).cast(pl.Datetime("ms", "Europe/Berlin")),
            "a": pl.Series([None, 3], dtype=pl.Int8),
            "b": [None, None],
        }
    )
    want = StatSeries([10**9, 2 * 10**9], {"a": [None, 3]})
    assert polars_adapter.read(frame, timestamp="when") == want
    assert polars_adapter.read(frame.with_columns(when=pl.Series([10**9, 2 * 10**9])), timestamp="when") == want


def wanted() -> list[str | None]:
    blobs = good()
    return [None if blob is None else result.decode() for blob, result in zip(blobs, reduce_json(blobs, 3), strict=True)]


def texts() -> list[str | None]:
    return [None if blob is None else blob.decode() for blob in good()]


@pytest.mark.usefixtures("backend")
def test_stored_histograms_in_polars() -> None:
    """A polars column, and a frame, go through Arrow as they are, `map_batches` too."""
    frame = pl.DataFrame({"stats": texts()})
    assert pl.Series(arrow.reduce(frame["stats"], 3)).to_list() == wanted()
    assert pl.DataFrame(arrow.reduce(frame, 3))["stats"].to_list() == wanted()
    mapped = frame.lazy().with_columns(
        pl.col("stats").map_batches(lambda column: pl.Series(arrow.reduce(column, 3)), return_dtype=pl.String)
    )
    assert mapped.collect()["stats"].to_list() == wanted()


@pytest.mark.usefixtures("backend")
def test_stored_histograms_in_pandas() -> None:
    """A pandas frame goes through Arrow as it is."""
    frame = pd.DataFrame({"id": range(len(texts())), "stats": pd.array(texts(), dtype="string")})
    result = arrow.reduce(pa.table(frame), 3).to_pandas()
    assert [None if pd.isna(cell) else cell for cell in result["stats"]] == wanted()
    assert arrow.reduce(frame, 3)["stats"].to_pylist() == wanted()


def test_series_through_each_other() -> None:
    """One library's frame is another's, by Arrow: all tell the same series."""
    series = StatSeries([0, 0, 7], {"x": [2**64 - 1, None, 0]}, counts=[1, 2**40, 3])  # polars renames a column without a name
    assert polars_adapter.read(pl.DataFrame(arrow.write(series))) == series
    assert arrow.read(polars_adapter.write(series)) == series
    assert arrow.read(series.to_pandas().reset_index()) == series


ZONES = ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns"]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_with_a_zone(zone: str, unit: str) -> None:
    """Pandas' indexes, columns and arrays, lists of its times or of datetimes: the same instants."""
    step = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
    # Across the hour that Berlin has twice.
    want = [1_793_494_799 * 10**9 + i * 1800 * 10**9 + (i * 7 % 10 * step if unit != "s" else 0) for i in range(6)]
    index = pd.DatetimeIndex(np.array(want, dtype="M8[ns]")).tz_localize("UTC").as_unit(unit).tz_convert(zone)
    for times in (index, pd.Series(index), index.array, list(index), index.astype(object), np.array(list(index), dtype=object)):
        assert StatSeries(times, {"x": range(6)}).timestamps.tolist() == want
    whole = [time - time % 1000 for time in want]
    assert StatSeries([time.to_pydatetime(warn=False) for time in index], {"x": range(6)}).timestamps.tolist() == whole
    assert len(StatSeries(index[:0], {})) == 0


@pytest.mark.parametrize(
    ("times", "told"),
    [
        (pd.DatetimeIndex(["2026-01-01", None], tz="UTC"), r"timestamps\[1\] must be nanoseconds .*, got NaT"),
        ([pd.Timestamp("2026-01-01", tz="UTC"), pd.NaT], r"timestamps\[1\] must be nanoseconds .*, got NaT"),
        ([datetime(2026, 1, 1)], r"timestamps\[0\] must be nanoseconds .*, got datetime\.datetime\(2026, 1, 1, 0, 0\)"),
        ([datetime(9999, 1, 1, tzinfo=UTC)], r"timestamps\[0\] must be nanoseconds .*, got 253370764800000000000"),
        (
            pd.DatetimeIndex(np.array(["3000-01-01"], dtype="M8[s]"), tz="UTC"),
            r"timestamps\[0\] must be nanoseconds .*, got 3000-01-",
        ),
    ],
)
def test_times_with_a_zone_that_are_refused(times: Any, told: str) -> None:
    """No time, no zone, or out of range."""
    with pytest.raises(SeriesError, match=told):
        StatSeries(times, {"x": range(len(times))})


def test_no_metric_is_a_time() -> None:
    """A time with a zone is no value."""
    with pytest.raises(SeriesError, match=r"metrics\['x'\]\[0\] must be a whole number"):
        StatSeries([1], {"x": pd.date_range("2026-01-01", periods=1, tz="UTC")})


def test_times_in_a_column_called_count() -> None:
    """The column of times is never taken for the counts."""
    assert polars_adapter.read(pl.DataFrame({"count": [5], "x": [1]}), timestamp="count") == StatSeries([5], {"x": [1]})
