"""Rejected rows of an earlier run: their file is written and read."""

from __future__ import annotations

import os
from pathlib import Path

from callstats._json import json_text, parsed
from callstats.call import Key
from callstats.db.jobs.save import parse_key, reason_of
from callstats.db.results import Reject
from callstats.errors import ArgumentError, DecodeError


def known_line(reject: Reject) -> str:
    """Return a line of JSON, as `read_known` reads it."""
    digest = {} if reject.digest is None else {"digest": reject.digest}
    return json_text({**reject._asdict(), **digest}) + "\n"


def read_known(path: str | os.PathLike[str]) -> frozenset[tuple[Key, str]]:
    """Return the keys and digests of a file of rejected rows. Rows without a key have no digest, and are never known."""
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise ArgumentError("known", "a file that can be read", os.fspath(path), hint=reason_of(error)) from None
    found = set()
    for number, line in enumerate(lines, 1):
        try:
            row = parsed(line)
            if not isinstance(row, dict) or not {"key", "reason"} <= row.keys():
                raise DecodeError("expected an object with key and reason", path="$")
            if isinstance(digest := row.get("digest"), str):
                found.add((parse_key(row["key"]), str(digest)))
        except DecodeError as error:
            hint = f"line {number}: {error}"
            raise ArgumentError("known", "a file of rejected rows", os.fspath(path), hint=hint) from None
    return frozenset(found)
