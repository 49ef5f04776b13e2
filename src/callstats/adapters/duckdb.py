"""Functions on stored histograms for DuckDB's SQL, a vector of rows at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from callstats._types import AnyArray, Present
from callstats.adapters._optional import needs
from callstats.adapters.arrow._text import one_array, read_array, reduce_array
from callstats.batch import StatBatch
from callstats.errors import CallstatsError
from callstats.rule import Rule
from callstats.stats import batch as batches

if TYPE_CHECKING:
    import duckdb


def register(connection: duckdb.DuckDBPyConnection) -> None:
    """Give a connection the functions.

    ==================================  =======================================================================================
    ``stats_decimate(stats, n)``        reduced to at most n samples
    ``stats_count(stats)``              how many rows there are
    ``stats_max(stats, metric)``        a metric's largest value, by its kept peaks where there are some
    ``stats_mean(stats, metric)``       its mean, weighed by counts
    ``stats_growth(stats, metric)``     by how much it grows, in units per second
    ``stats_valid(stats)``              whether nothing refuses the histogram
    ``stats_error(stats)``              why a histogram is refused; NULL where it is not
    ==================================  =======================================================================================

    NULL gives NULL, and so does a metric that the histogram lacks. A refused histogram ends the statement, with its path. The
    histograms are VARCHAR or JSON; ``decode(stats)`` makes it of a BLOB.

    Parameters
    ----------
    connection : DuckDBPyConnection

    Raises
    ------
    ImportError
        When duckdb or pyarrow is missing.

    Examples
    --------
    >>> import duckdb
    >>> connection = duckdb.connect()
    >>> register(connection)
    >>> blob = '[{"timestamp":"2017-11-27T14:52:53Z","metrics":{"mem_usage":7}}]'
    >>> connection.execute("SELECT stats_max(?, 'mem_usage'), stats_max(NULL, 'mem_usage')", [blob]).fetchone()
    (7, None)
    """
    with needs("adapters.duckdb.register", "duckdb", "duckdb"):
        import duckdb  # noqa: F401 - only whether it is there
    with needs("adapters.duckdb.register", "pyarrow", "duckdb"):
        import pyarrow as pa  # noqa: F401

    def function(name: str, work: Callable[..., Any], arguments: list[str], result: str) -> None:
        def one(stats: Any) -> Any:
            return work(one_array(stats))

        def two(stats: Any, other: Any) -> Any:
            return work(one_array(stats), one_array(other))

        # DuckDB looks at how many parameters a function has.
        called = one if len(arguments) == 1 else two
        connection.create_function(name, called, arguments, result, type="arrow", null_handling="special")

    def figure(name: str, work: Callable[..., Any], result: str) -> None:
        function(name, lambda stats, metric: _figure(name, work, stats, metric), ["VARCHAR", "VARCHAR"], result)

    function("stats_decimate", _decimate, ["VARCHAR", "BIGINT"], "VARCHAR")
    function("stats_valid", _valid, ["VARCHAR"], "BOOLEAN")
    function("stats_error", _error, ["VARCHAR"], "VARCHAR")
    function("stats_count", _count, ["VARCHAR"], "BIGINT")
    figure("stats_max", batches.peaks, "UBIGINT")
    figure("stats_mean", batches.means, "DOUBLE")
    figure("stats_growth", batches.growths, "DOUBLE")


def _decimate(stats: Any, n: Any) -> Any:
    """Reduce a vector, by each of the numbers that stand beside it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers = pc.unique(n).to_pylist()
    if len(numbers) == 1:
        return _reduced(stats, numbers[0])
    places = [pc.indices_nonzero(pc.equal(n, number) if number is not None else n.is_null()) for number in numbers]
    parts = pa.concat_arrays([_reduced(stats.take(at), number) for at, number in zip(places, numbers, strict=True)])
    return parts.take(pa.array(np.argsort(pa.concat_arrays(places).to_numpy())))


def _reduced(stats: Any, n: int | None) -> Any:
    import pyarrow as pa

    if n is None:
        return pa.nulls(len(stats), stats.type)
    result, refused = reduce_array(stats, Rule(n), counts=True, sort=False)
    if refused:
        raise _named("stats_decimate", refused[min(refused)])
    return result


def _valid(stats: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    _, refused = reduce_array(stats, Rule(None), counts=True, sort=False)
    valid = np.ones(len(stats), dtype=np.bool_)
    valid[list(refused)] = False
    return pc.if_else(stats.is_valid(), pa.array(valid), pa.scalar(None, pa.bool_()))


def _error(stats: Any) -> Any:
    import pyarrow as pa

    _, refused = reduce_array(stats, Rule(None), counts=True, sort=False)
    return pa.array([str(refused[i]) if i in refused else None for i in range(len(stats))], pa.string())


def _count(stats: Any) -> Any:
    import pyarrow as pa

    batch = _read("stats_count", stats)
    return pa.array(np.diff(batch.offsets), mask=stats.is_null().to_numpy(zero_copy_only=False))


def _figure(name: str, work: Callable[[StatBatch, str], tuple[AnyArray, Present]], stats: Any, metric: Any) -> Any:
    """A figure of each histogram of a vector, of each of the metrics that stand beside it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    batch = _read(name, stats)
    figures, there = work(batch, "")
    there = np.zeros_like(there)
    for one in pc.unique(metric).to_pylist():
        if one is not None:
            rows = pc.equal(metric, one).fill_null(False).to_numpy(zero_copy_only=False)
            answers, known = work(batch, one)
            figures = np.where(rows, answers, figures)
            there |= rows & known
    return pa.array(figures, mask=~there)


def _read(name: str, stats: Any) -> StatBatch:
    batch, refused = read_array(stats, sort=False)
    if refused:
        raise _named(name, refused[min(refused)])
    return batch


def _named(name: str, error: CallstatsError) -> CallstatsError:
    error.args = (f"{name}: {error}",)
    return error
