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
from callstats.errors import raise_first
from callstats.rule import Rule
from callstats.stats import batch as batches


def register(connection: duckdb.DuckDBPyConnection) -> None:
    """Register the functions of `callstats.adapters.sqlite.register` on a connection.

    The blobs are VARCHAR or JSON; ``decode(stats)`` makes VARCHAR of a BLOB. ``stats_valid`` gives a BOOLEAN. A rejected blob
    ends the statement with its path.

    Examples
    --------
    >>> connection = duckdb.connect()
    >>> register(connection)
    >>> blob = '[{"timestamp":"2017-11-27T14:52:53Z","metrics":{"mem_usage":7}}]'
    >>> connection.execute("SELECT stats_max(?, 'mem_usage'), stats_max(NULL, 'mem_usage')", [blob]).fetchone()
    (7, None)
    """

    def function(name: str, work: Callable[..., Any], kinds: list[str], result: str) -> None:
        connection.create_function(name, work, kinds, result, type="arrow", null_handling="special")

    function("stats_valid", _valid, ["VARCHAR"], "BOOLEAN")
    function("stats_error", _error, ["VARCHAR"], "VARCHAR")
    function("stats_count", _count, ["VARCHAR"], "BIGINT")
    function("stats_decimate", partial(_by_argument, _decimate), ["VARCHAR", "BIGINT"], "VARCHAR")
    for name, numbers_of, kind in (
        ("stats_max", batches.peaks, "UBIGINT"),
        ("stats_mean", batches.means, "DOUBLE"),
        ("stats_growth", batches.growths, "DOUBLE"),
    ):
        work = partial(_by_argument, partial(_metric_number, name, numbers_of))
        function(name, work, ["VARCHAR", "VARCHAR"], kind)


def _by_argument(work: Callable[[Any, Any], Any], stats: Any, argument: Any) -> Any:
    """Apply work to the blobs of each distinct argument."""
    stats, argument = one_array(stats), one_array(argument)
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
    return pc.if_else(one_array(stats).is_valid(), _error(stats).is_null(), pa.scalar(None, pa.bool_()))


def _error(stats: Any) -> Any:
    return reasons_of(reduce_array(one_array(stats), Rule(None))[1], len(stats))


def _count(stats: Any) -> Any:
    stats = one_array(stats)
    batch = _accepted("stats_count", *read_array(stats))
    return pa.array(np.diff(batch.offsets), mask=is_null(stats))


def _accepted(name: str, result: Any, rejected: Rejected) -> Any:
    """Return the result, or raise the first error with the name of the function."""
    raise_first(rejected, name, start=None)
    return result
