from collections.abc import Callable
from typing import TypeAlias

from callstats._types import Block, Bytes, Counts, Times

_Layout: TypeAlias = Callable[[tuple[bytes, ...]], tuple[Counts, bytes, Counts]]

def reduce_text(
    data: Bytes, offsets: Counts, max_samples: int, max_bytes: int, zero: bool, counts: bool, layout: _Layout
) -> tuple[bytes, Counts, Bytes]: ...
def reduce_texts(
    texts: list[bytes], max_samples: int, max_bytes: int, zero: bool, counts: bool, layout: _Layout
) -> list[bytes | None]: ...
def read_text(text: bytes) -> tuple[list[bytes], Times, Block, Bytes | None, Counts | None] | None: ...
def write_text(
    times: Times, values: Block, present: Bytes | None, counts: Counts | None, keys: bytes, key_ends: Counts, digits: int
) -> bytes: ...
def fit(
    times: Times,
    values: Block,
    present: Bytes | None,
    counts: Counts | None,
    max_samples: int,
    max_bytes: int,
    zero: bool,
    counted: bool,
    columns: Counts,
    keys: bytes,
    key_ends: Counts,
) -> int: ...
