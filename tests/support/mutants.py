"""Mutants of stored histograms: texts that are nearly right, for telling whether two readers agree."""

from __future__ import annotations

import random
from collections.abc import Iterator

TOKENS = [
    b"\x00" * 8,
    b"\x00" * 16,
    b"\xff" * 16,
    b"0" * 16,
    b'"' * 24,
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b'"',
    b"\\",
    b"\\u0041",
    b"\\ud800",
    b"null",
    b"true",
    b"-",
    b"-0",
    b"0",
    b"00",
    b"1e3",
    b".5",
    b"18446744073709551615",
    b"18446744073709551616",
    b"99999999999999999999",
    b"9223372036854775807",
    b" ",
    b"\n",
    b"\t",
    b"\x00",
    b"\xff",
    b"\xc3\xa9",
    b"\xe2\x80\xa8",
    b"\xef\xbb\xbf",
    b"<",
    b"&",
    b"\x7f",
    b"NaN",
    b"1.0",
    b"1e0",
    b"\\ud83d\\ude00",
    b"\\udc00",
    b"\\x",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xc0\x80",
    b"\xf0\x9f\x98\x80",
    b"  ",
    b", ",
    b'": ',
    b'"more":[1,-2.5e-3,{"a":"\\u00e9"}],',
    b'"more":"}",',
    b'"timestamp":"2017-11-27T14:52:53Z",',
    b'"\\u0078":2,',
    b'"count":null',
    b"Z",
    b"z",
    b"+05:30",
    b"-00:00",
    b"+24:00",
    b"T",
    b"t",
    b".123456789",
    b".1",
    b".",
    b"1677-09-21T00:12:43.146Z",
    b"2262-04-11T23:47:16.854775807Z",
    b"2016-02-29",
    b"2017-02-29",
    b'"count":',
    b',"count":3',
    b',"count":0',
    b',"count":1',
    b'"timestamp":',
    b'"metrics":',
    b'"metrics":null',
    b'"metrics":{}',
    b'"x":1',
    b',"x@max":7',
    b'"x":null',
    b"@max",
    b"@",
    b"}}",
    b"},{",
    b"]\n",
]


def mutants(blobs: list[bytes], seed: int, n: int) -> Iterator[bytes]:
    """N seeded mutants: bytes changed, cut, doubled, swapped between blobs; tokens of the form put in or over others."""
    rng = random.Random(seed)
    for _ in range(n):
        blob = bytearray(rng.choice(blobs))
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            at = rng.randrange(len(blob) + 1)
            end = min(len(blob), at + rng.choice((0, 1, 1, 2, 4, 9, 30)))
            way = rng.randrange(8)
            if way == 0:
                blob[at:end] = b""
            elif way == 1:
                blob[at:at] = rng.choice(TOKENS)
            elif way == 2:
                blob[at:end] = rng.choice(TOKENS)
            elif way == 3:
                blob[at:at] = blob[at:end]
            elif way == 4 and at < len(blob):
                blob[at] = rng.randrange(256)
            elif way == 5 and at < len(blob):
                blob[at] ^= 1 << rng.randrange(8)
            elif way == 6:
                other = rng.choice(blobs)
                blob[at:end] = other[at : at + rng.randrange(40)]
            else:
                # A digit for a digit: mostly still well formed.
                digits = [place for place, byte in enumerate(blob) if 48 <= byte <= 57]
                if digits:
                    blob[rng.choice(digits)] = 48 + rng.randrange(10)
        yield bytes(blob)
