from callstats._types import Block, Bytes, Counts, Times

def decode_blob(blob: bytes) -> tuple[tuple[bytes, ...], Times, Block, Bytes | None, Counts | None] | None: ...
def decode_packed(
    data: Bytes, offsets: Counts
) -> tuple[list[bytes], Times, Block, Bytes | None, Counts | None, Counts, Bytes]: ...
def encode_columns(
    times: Times, values: Block, present: Bytes | None, counts: Counts | None, keys: bytes, key_ends: Counts, digits: int
) -> bytes: ...
def decode_blobs(
    texts: list[bytes | None],
) -> tuple[list[bytes], Times, Block, Bytes | None, Counts | None, Counts, Bytes]: ...
def encode_packed(
    times: Times,
    values: Block,
    present: Bytes | None,
    counts: Counts | None,
    offsets: Counts,
    keys: bytes,
    key_ends: Counts,
    digits: int,
) -> list[bytes]: ...
