"""Functions on stored blobs for DuckDB's SQL, a vector of rows at a time."""

from __future__ import annotations

from collections.abc import Callable
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

    def function(name: str, work: Callable[..., Any], arguments: list[str], result: str) -> None:
        def one(stats: Any) -> Any:
            return work(one_array(stats))

        def two(stats: Any, other: Any) -> Any:
            return work(one_array(stats), one_array(other))

        called = one if len(arguments) == 1 else two  # DuckDB counts the parameters of a function
        connection.create_function(name, called, arguments, result, type="arrow", null_handling="special")

    def per_metric(name: str, work: Callable[..., Any], result: str) -> None:
        function(name, lambda stats, metric: _per_metric(name, work, stats, metric), ["VARCHAR", "VARCHAR"], result)

    function("stats_decimate", _decimate, ["VARCHAR", "BIGINT"], "VARCHAR")
    function("stats_valid", _valid, ["VARCHAR"], "BOOLEAN")
    function("stats_error", _error, ["VARCHAR"], "VARCHAR")
    function("stats_count", _count, ["VARCHAR"], "BIGINT")
    per_metric("stats_max", batches.peaks, "UBIGINT")
    per_metric("stats_mean", batches.means, "DOUBLE")
    per_metric("stats_growth", batches.growths, "DOUBLE")


def _decimate(stats: Any, n: Any) -> Any:
    """Reduce each blob of a vector to its own number of samples."""
    numbers = pc.unique(n).to_pylist()
    if len(numbers) == 1:
        return _reduced(stats, numbers[0])
    indexes = [pc.indices_nonzero(pc.equal(n, number) if number is not None else n.is_null()) for number in numbers]
    parts = pa.concat_arrays([_reduced(stats.take(some), number) for some, number in zip(indexes, numbers, strict=True)])
    return parts.take(pa.array(np.argsort(pa.concat_arrays(indexes).to_numpy())))


def _reduced(stats: Any, n: int | None) -> Any:
    if n is None:
        return pa.nulls(len(stats), stats.type)
    result, rejected = reduce_array(stats, Rule(n))
    return _accepted("stats_decimate", result, rejected)


def _valid(stats: Any) -> Any:
    return pc.if_else(stats.is_valid(), _error(stats).is_null(), pa.scalar(None, pa.bool_()))


def _error(stats: Any) -> Any:
    return reasons_of(reduce_array(stats, Rule(None))[1], len(stats))


def _count(stats: Any) -> Any:
    batch = _accepted("stats_count", *read_array(stats))
    return pa.array(np.diff(batch.offsets), mask=is_null(stats))


def _per_metric(name: str, work: Callable[[StatBatch, str], tuple[AnyArray, Present]], stats: Any, metric: Any) -> Any:
    """Compute a number of each blob of a vector, for its own metric."""
    batch = _accepted(name, *read_array(stats))
    numbers, present = work(batch, "")
    present = np.zeros_like(present)
    for one in pc.unique(metric).to_pylist():
        if one is not None:
            rows = pc.equal(metric, one).fill_null(False).to_numpy(zero_copy_only=False)
            answers, known = work(batch, one)
            numbers = np.where(rows, answers, numbers)
            present |= rows & known
    return pa.array(numbers, mask=~present)


def _accepted(name: str, result: Any, rejected: Rejected) -> Any:
    """Return the result, or raise the first error with the name of the function."""
    if rejected:
        raise _named(name, rejected)
    return result


def _named(name: str, rejected: Rejected) -> CallstatsError:
    error = rejected.pop(min(rejected))
    error.args = (f"{name}: {error}",)
    return error
