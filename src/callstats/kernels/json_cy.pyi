from callstats.kernels.json_py import decode_blob as decode_blob
from callstats.kernels.json_py import decode_blobs as decode_blobs
from callstats.kernels.json_py import decode_packed as decode_packed
from callstats.kernels.json_py import encode_columns as encode_columns

def choose_form(word: str) -> bool: ...
def fused_rows() -> int: ...
