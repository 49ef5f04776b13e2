from callstats._types import Block, Bytes, Counts, Times

def decimate_columns(
    times: Times,
    values: Block,
    present: Bytes | None,
    counts: Counts | None,
    offsets: Counts | None,
    max_samples: int,
    zero: bool,
    plan: Counts,
) -> tuple[Times, Block, Bytes | None, Counts | None, Counts | None, tuple[int, int] | None]: ...
