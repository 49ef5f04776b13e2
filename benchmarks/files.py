"""A Parquet file reduced into another one, against pyarrow alone, which reads and writes it: ``python benchmarks/files.py [MB]``.

Both read and write in pages of the same size with the same compression, in processes of their own, and take turns. The peaks of
their memory are for the size asked for, and for a tenth of it.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import pyarrow as pa
import pyarrow.parquet as pq

import callstats.adapters.parquet
import callstats.db.jobs.files  # noqa: F401 - no part of what is measured
from callstats.db import open_file
from inputs import stored_call

PAGE_ROWS = 600
AT_LEAST = 0.8


def make(path: Path, megabytes: float) -> None:
    """A file of blobs of 240 rows."""
    blobs = [stored_call(240, seed=seed).decode() for seed in range(64)]
    rows = int(megabytes * 10**6 / len(blobs[0]))
    with pq.ParquetWriter(
        path, pa.schema({"id": pa.int64(), "stats": pa.string()}), compression="zstd", use_dictionary=False
    ) as file:
        for start in range(0, rows, PAGE_ROWS):
            ids = range(start, min(start + PAGE_ROWS, rows))
            file.write_table(pa.table({"id": ids, "stats": [blobs[i * 37 % 64] for i in ids]}))


def ours(source: Path, output: Path) -> None:
    """The job under test."""
    result = open_file(source).reduce(output, 60)
    assert result.rows == result.changed == pq.read_metadata(output).num_rows


def alone(source: Path, output: Path) -> None:
    """Read and write."""
    with (
        pq.ParquetFile(source, buffer_size=2**20, pre_buffer=False) as file,
        pq.ParquetWriter(output, file.schema_arrow, compression="zstd", use_dictionary=False) as new,
    ):
        for batch in file.iter_batches(PAGE_ROWS):
            new.write_batch(batch)


def measured(work: Callable[[Path, Path], None], source: Path, pipe: object) -> None:
    """Send the processor seconds and the peak memory of this process."""
    output = source.with_name("out.parquet")
    began = process_time()
    work(source, output)
    seconds = process_time() - began
    output.unlink()
    pipe.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))  # type: ignore[attr-defined]


def run(work: Callable[[Path, Path], None], source: Path) -> tuple[float, float]:
    """The processor seconds and MiB of a process that does the work."""
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=measured, args=(work, source, there))
    process.start()
    found: tuple[float, float] = here.recv()
    process.join()
    return found


def main(megabytes: float, rounds: int = 3) -> int:
    """Print both sides, and return the exit code."""
    with TemporaryDirectory() as folder:
        source, tenth = Path(folder, "in.parquet"), Path(folder, "tenth.parquet")
        make(source, megabytes)
        make(tenth, megabytes / 10)
        pairs = [(run(ours, source), run(alone, source)) for _ in range(rounds)]
        mine, peer = (min(pair[side][0] for pair in pairs) for side in (0, 1))
        print(f"{megabytes:.0f} MB of text: {mine:.2f} s, pyarrow alone {peer:.2f} s")
        print(f"{peer / mine:.2f} of the speed of pyarrow alone (at least {AT_LEAST})")
        peaks = pairs[0][0][1], run(ours, tenth)[1], pairs[0][1][1]
        print("peak memory: {:.0f} MiB; at a tenth of the rows {:.0f} MiB; pyarrow alone {:.0f} MiB".format(*peaks))
    return 0 if peer / mine >= AT_LEAST else 1


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if sys.argv[1:] else 100))
