"""Stored histograms for whatever route they take: the vectors, with nulls, empties and bad ones among them."""

from __future__ import annotations

from support.blobs import seeds
from support.vectors import load

Blob = bytes | None


def stored() -> list[Blob]:
    """Every blob of the wire vectors that is text, real ones, nulls and empties."""
    vectors = [text for row in load("wire") if (text := as_text(row["blob"])) is not None]
    blobs: list[Blob] = [None, b"", *seeds(), b"no", None, *vectors, b"[]", b"null", None]
    return blobs


def good() -> list[Blob]:
    """Those of them that nothing refuses."""
    from callstats import CallstatsError, reduce_json

    blobs = stored()
    results = reduce_json(blobs, errors="return")
    return [blob for blob, result in zip(blobs, results, strict=True) if not isinstance(result, CallstatsError)]


def as_text(blob: str) -> bytes | None:
    """A vector's blob as bytes, if UTF-8 can hold it."""
    try:
        return blob.encode()
    except UnicodeEncodeError:
        return None
