from callstats._types import Block, Bytes, Counts, Times
from callstats.kernels.json_reduce_py import PlanForColumns

def reduce_packed(
    data: Bytes, offsets: Counts, max_samples: int, max_bytes: int, zero: bool, counts: bool, plan_for: PlanForColumns
) -> tuple[bytes, Counts, Bytes]: ...
def reduce_blobs(
    blobs: list[bytes], max_samples: int, max_bytes: int, zero: bool, counts: bool, plan_for: PlanForColumns
) -> tuple[list[bytes | None], Bytes]: ...
def fit_rows(
    times: Times,
    values: Block,
    present: Bytes | None,
    counts: Counts | None,
    max_samples: int,
    max_bytes: int,
    zero: bool,
    with_counts: bool,
    plan: Counts,
    keys: bytes,
    key_ends: Counts,
) -> tuple[int, int]: ...
