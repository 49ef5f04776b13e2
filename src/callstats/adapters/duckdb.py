"""Functions on stored blobs for DuckDB's SQL, a vector of rows at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from callstats._extras import needs

with needs("adapters.duckdb", "duckdb"):
    import duckdb
    import pyarrow as pa
    import pyarrow.compute as pc

from callstats._types import AnyArray, Present
from callstats.adapters.arrow._arrays import is_null, one_array
from callstats.adapters.arrow._text import Rejected, read_array, reasons_of, reduce_array
from callstats.batch import StatBatch
from callstats.errors import CallstatsError
from callstats.rule import Rule
from callstats.stats import batch as batches


def register(connection: duckdb.DuckDBPyConnection) -> None:
    """Register the functions of `callstats.adapters.sqlite.register` on a connection.

    The blobs are VARCHAR or JSON; ``decode(stats)`` makes VARCHAR of a BLOB. ``stats_valid`` gives a BOOLEAN. A rejected blob
    ends the statement with its path.

    Parameters
    ----------
    connection : DuckDBPyConnection

    Examples
    --------
    >>> connection = duckdb.connect()
    >>> register(connection)
    >>> blob = '[{"timestamp":"2017-11-27T14:52:53Z","metrics":{"mem_usage":7}}]'
    >>> connection.execute("SELECT stats_max(?, 'mem_usage'), stats_max(NULL, 'mem_usage')", [blob]).fetchone()
    (7, None)
    """

    def register_one(name: str, work: Callable[[Any], Any], result: str) -> None:
        def one(stats: Any) -> Any:  # DuckDB counts the parameters
            return work(one_array(stats))

        connection.create_function(name, one, ["VARCHAR"], result, type="arrow", null_handling="special")

    def register_two(name: str, work: Callable[[Any, Any], Any], argument: str, result: str) -> None:
        def two(stats: Any, other: Any) -> Any:
            return _by_argument(work, one_array(stats), one_array(other))

        connection.create_function(name, two, ["VARCHAR", argument], result, type="arrow", null_handling="special")

    register_one("stats_valid", _valid, "BOOLEAN")
    register_one("stats_error", _error, "VARCHAR")
    register_one("stats_count", _count, "BIGINT")
    register_two("stats_decimate", _decimate, "BIGINT", "VARCHAR")
    for name, numbers_of, kind in (
        ("stats_max", batches.peaks, "UBIGINT"),
        ("stats_mean", batches.means, "DOUBLE"),
        ("stats_growth", batches.growths, "DOUBLE"),
    ):
        register_two(name, partial(_metric_number, name, numbers_of), "VARCHAR", kind)


def _by_argument(work: Callable[[Any, Any], Any], stats: Any, argument: Any) -> Any:
    """Apply work to the blobs of each distinct argument."""
    values = pc.unique(argument).to_pylist()
    if len(values) == 1:
        return work(stats, values[0])
    indexes = [pc.indices_nonzero(pc.equal(argument, value) if value is not None else argument.is_null()) for value in values]
    parts = pa.concat_arrays([work(stats.take(some), value) for some, value in zip(indexes, values, strict=True)])
    return parts.take(pa.array(np.argsort(pa.concat_arrays(indexes).to_numpy())))


def _decimate(stats: Any, n: int | None) -> Any:
    return pa.nulls(len(stats), stats.type) if n is None else _accepted("stats_decimate", *reduce_array(stats, Rule(n)))


def _metric_number(
    name: str, numbers_of: Callable[[StatBatch, str], tuple[AnyArray, Present]], stats: Any, metric: str | None
) -> Any:
    numbers, present = numbers_of(_accepted(name, *read_array(stats)), metric or "")
    return pa.array(numbers, mask=~present if metric is not None else np.ones_like(present))


def _valid(stats: Any) -> Any:
    return pc.if_else(stats.is_valid(), _error(stats).is_null(), pa.scalar(None, pa.bool_()))


def _error(stats: Any) -> Any:
    return reasons_of(reduce_array(stats, Rule(None))[1], len(stats))


def _count(stats: Any) -> Any:
    batch = _accepted("stats_count", *read_array(stats))
    return pa.array(np.diff(batch.offsets), mask=is_null(stats))


def _accepted(name: str, result: Any, rejected: Rejected) -> Any:
    """Return the result, or raise the first error with the name of the function."""
    if rejected:
        raise _named(name, rejected)
    return result


def _named(name: str, rejected: Rejected) -> CallstatsError:
    error = rejected.pop(min(rejected))
    error.args = (f"{name}: {error}",)
    return error
