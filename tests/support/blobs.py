"""Stored histograms for telling whether readers agree: real ones cut short, and a grammar of what may be stored."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from callstats import StatSeries, decimate
from callstats.demo import docker_frames
from callstats.drivers import pick_stats
from support.spellings import OTHER, SAME
from support.vectors import load

EPOCH_MINUTE = [
    b'[{"timestamp":"1970-01-01T00:00:07.000Z","metrics":{"x":1}}]\n',
    b'[{"timestamp":"1970-01-' + b"\0" * 8 + b':07.000Z","metrics":{"x":1}}]\n',
    b'[{"timestamp":"' + b"\0" * 8 + b'01T00:00:07.000Z","metrics":{"x":1}}]\n',
]
"""Rows of the minute that the scanner knows before it has read any, whole and with one half of it overwritten by zero bytes."""


def seeds() -> list[bytes]:
    """Real blobs of at most 12 rows: of an engine, of Fn, with holes, peaks, counts, offsets, nine digits; and bad ones."""
    captured = StatSeries.from_samples(stat for frame in docker_frames() if (stat := pick_stats(frame)))
    plain = StatSeries(captured.timestamps[1:], {name: captured[name][1:] for name in captured.names})
    blobs = [
        captured[:12].to_json(),
        plain[:12].to_json(),
        plain[:5].to_json(digits=9),
        decimate(captured, 9, how=("mean", "max")).to_json(),
        decimate(plain, 4, how={"mem_usage": ("mean", "min", "max", "first", "last")}).to_json(),
        StatSeries([0, 1, 2**62], {"x": [0, 2**64 - 1, 10**19]}, counts=[1, 2**40, 3]).to_json(),
        StatSeries([-(10**18), 5, 5], {"": [7, None, 8], "y": [None, 1, 2], "y@max": [None, None, 3]}).to_json(),
        b'[{"timestamp":"2017-11-27T08:52:53.5-06:00","metrics":{"x":1}},{"timestamp":"2017-11-27T20:22:54.123456789+05:30","metrics":{}}]',
    ]
    rows = json.loads(plain[:3].to_json()) + json.loads(StatSeries([2**61], {"x": [7]}).to_json())
    blobs += [spell(rows[4 - i % 3 - 2 :]).encode() for i, spell in enumerate((SAME | OTHER).values())]
    return blobs + [blob for row in load("wire") if len(blob := row["blob"].encode()) < 600] + EPOCH_MINUTE


_digit = st.integers(0, 9).map(str)
_space = st.sampled_from(("", "", "", "", " ", "\n", "\t\r "))
_number = st.sampled_from(
    ("0", "1", "9", "18446744073709551615", "18446744073709551616", "100000000000000000000", "-1", "00", "1.0")
) | (st.integers(0, 2**64).map(str))
_plain_number = st.integers(0, 9).flatmap(lambda power: st.integers(0, 100**power)).map(str)
_name = st.sampled_from(
    ("a", "b", "b@max", "mem_usage", "mem_usage@max", "", "a<b", "é", "\\u0061", "c\\n", "x@min@max", "~", "\x7f")
)
_fraction = st.just(".123") | st.integers(0, 11).flatmap(lambda n: st.text("0123456789", min_size=n, max_size=n)).map(
    lambda digits: "." + digits if digits else ""
)
_zone = st.sampled_from(("Z", "Z", "Z", "Z", "z", "+00:00", "-06:00", "+23:59", "+24:00", "-00:60", ""))
_date = st.sampled_from(
    ("2017-11-27", "2016-02-29", "2017-02-29", "1969-12-31", "1677-09-21", "1678-01-01", "2261-12-31", "2262-04-11", "0001-01-01")
)


@st.composite
def _time(draw: st.DrawFn) -> str:
    clock = f"{draw(st.integers(0, 24)):02}:{draw(st.integers(0, 60)):02}:{draw(st.integers(0, 60)):02}"
    return draw(_date) + draw(st.sampled_from("TTTTTt ")) + clock + draw(_fraction) + draw(_zone)


@st.composite
def grammar(draw: st.DrawFn) -> bytes:
    """A text of about the stored shape: key orders, white space, offsets, digits, escapes, holes and counts at will."""
    tidy = draw(st.booleans())
    space = st.just("") if tidy else _space
    number = _plain_number if tidy else _number
    names = draw(st.lists(_name, max_size=5, unique=tidy))
    if tidy:
        names.sort()
    start = draw(st.integers(0, 4))
    rows = []
    for i in range(draw(st.integers(0, 8))):
        time = f"2017-11-27T14:52:{10 + start + i:02}{draw(_fraction)}Z" if tidy or draw(st.integers(0, 3)) else draw(_time())
        kept = [name for name in names if draw(st.integers(0, 5))]
        pairs = ",".join(f'{draw(space)}"{name}"{draw(space)}:{draw(space)}{draw(number)}' for name in kept)
        fields = [f'"timestamp":{draw(space)}{json.dumps(time)}', f'"metrics":{draw(space)}{{{pairs}{draw(space)}}}']
        if draw(st.integers(0, 3)) == 0:
            fields.append(f'"count":{draw(st.sampled_from(("1", "2", "7", "0", "9223372036854775807", "null")))}')
        if not tidy and draw(st.integers(0, 4)) == 0:
            fields = draw(st.permutations(fields))
        rows.append("{" + ",".join(field + draw(space) for field in fields) + "}")
    return f"{draw(space)}[{','.join(rows)}]{draw(st.sampled_from(('', chr(10), ' ')))}".encode()
