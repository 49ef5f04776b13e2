"""The seeded inputs that every reduction must get right. They are never edited to make a test pass.

Each `Item` is one series twice: as what a caller may hand in (lists, odd layouts, masked arrays), and as plain rows.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from callstats import StatSeries
from support.reference import TIME_MAX, TIME_MIN, Row

SIZES = (0, 1, 2, 7, 8, 9, 127, 128, 129, 5000)
SECOND = 10**9
EPOCH = 1_511_794_373_123_456_789
EDGES = (0, 1, 2, 2**32 - 1, 2**32, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1)


@dataclass(frozen=True)
class Item:
    """One input and what it holds."""

    name: str
    timestamps: object
    metrics: dict[str, object]
    counts: object
    rows: list[Row]

    def series(self) -> StatSeries:
        """The input as a series."""
        return StatSeries(self.timestamps, self.metrics, counts=self.counts)


@lru_cache(maxsize=1)
def zoo() -> tuple[Item, ...]:
    """Every input, made once."""
    items = (*_sizes(), *_shapes(), *_values(), *_layouts(), *_types(), *_holes(), *_counts())
    assert len({item.name for item in items}) == len(items)
    return items


def series_of(rows: Iterable[Row], *, sort: bool = False) -> StatSeries:
    """Rows as a series, by way of lists."""
    rows = list(rows)
    names = {name for _, metrics, _ in rows for name in metrics}
    columns = {name: [metrics.get(name) for _, metrics, _ in rows] for name in names}
    return StatSeries([row[0] for row in rows], columns, counts=[row[2] for row in rows], sort=sort)


def rows_of(series: StatSeries) -> list[Row]:
    """A series as rows."""
    return [(stat.timestamp, stat.metrics, count) for stat, count in zip(series, series.counts.tolist(), strict=True)]


def _item(name: str, times: list[int], metrics: dict[str, list[int | None]], counts: list[int] | None = None) -> Item:
    rows = [
        (time, {key: column[i] for key, column in metrics.items() if column[i] is not None}, counts[i] if counts else 1)
        for i, time in enumerate(times)
    ]
    return Item(name, times, dict(metrics), counts, rows)


def _random(n: int, seed: str) -> tuple[list[int], dict[str, list[int | None]]]:
    dice = random.Random(seed)
    times, time = [], EPOCH
    for _ in range(n):
        times.append(time)
        time += dice.randrange(SECOND // 2, 2 * SECOND)
    return times, {
        "cpu_total": [dice.randrange(400) for _ in range(n)],
        "mem_usage": [dice.randrange(2**40) for _ in range(n)],
        "net_rx": sorted(dice.randrange(2**62) for _ in range(n)),
    }


def _sizes() -> Iterator[Item]:
    for n in SIZES:
        yield _item(f"size-{n}", *_random(n, f"size-{n}"))


def _shapes() -> Iterator[Item]:
    """Spacings of the samples in time."""
    dice = random.Random("shapes")
    n = 129
    spans: dict[str, Callable[[int], int]] = {
        "even": lambda i: EPOCH + i * SECOND,
        "all-equal": lambda i: EPOCH,
        "ties": lambda i: EPOCH + i // 5 * SECOND,
        "gaps": lambda i: EPOCH + (i + i // 10 * 590) * SECOND,
        "early-gap": lambda i: EPOCH + (i + 10**6 * (i > 0)) * SECOND,
        "late-gap": lambda i: EPOCH + (i + 10**6 * (i == n - 1)) * SECOND,
        "one-ns-apart": lambda i: EPOCH + i,
        "within-three-ns": lambda i: EPOCH + i * 4 // n,
        "negative": lambda i: -EPOCH + i * SECOND - i % 3,
        "across-1970": lambda i: (i - 64) * SECOND // 7,
        "first-times": lambda i: TIME_MIN + i,
        "last-times": lambda i: TIME_MAX - n + 1 + i,
        "whole-range": lambda i: TIME_MIN + i * (TIME_MAX - TIME_MIN) // (n - 1),
        "both-ends": lambda i: TIME_MIN if i < n // 2 else TIME_MAX,
    }
    for name, at in spans.items():
        values = [dice.randrange(10**6) for _ in range(n)]
        yield _item(f"times-{name}", [at(i) for i in range(n)], {"x": values, "y": values[::-1]})
    times = sorted(dice.randrange(TIME_MIN, TIME_MAX) for _ in range(n))
    yield _item("times-anywhere", times, {"x": [dice.randrange(2**64) for _ in range(n)]})


def _values() -> Iterator[Item]:
    dice = random.Random("values")
    for n in (8, 129):
        times = [EPOCH + i * SECOND for i in range(n)]
        for value in EDGES:
            yield _item(f"values-all-{value}-{n}", times, {"x": [value] * n})
        yield _item(f"values-edges-{n}", times, {name: [dice.choice(EDGES) for _ in times] for name in ("x", "y", "x@max", "é")})
        yield _item(f"values-none-{n}", times, {})


def _layouts() -> Iterator[Item]:
    """The same values in every layout that an array may have."""
    times, metrics = _random(129, "layouts")
    layouts: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "plain": lambda a: a,
        "read-only": _read_only,
        "strided": _strided,
        "reversed": lambda a: np.ascontiguousarray(a[::-1])[::-1],
        "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
        "unaligned": _unaligned,
        "strided-swapped-read-only": lambda a: _read_only(_strided(a.astype(a.dtype.newbyteorder()))),
    }
    for name, layout in layouts.items():
        plain = _item(f"layout-{name}", times, metrics, list(range(1, 130)))
        columns = {key: layout(np.array(column, dtype=np.uint64)) for key, column in metrics.items()}
        counts = layout(np.arange(1, 130, dtype=np.int64))
        yield Item(plain.name, layout(np.array(times, dtype=np.int64)), columns, counts, plain.rows)
    plain = _item("layout-stretched", [EPOCH] * 8, {"x": [7] * 8}, [3] * 8)
    stretched = {key: np.broadcast_to(np.array(value), (8,)) for key, value in (("t", EPOCH), ("x", 7), ("c", 3))}
    yield Item(plain.name, stretched["t"], {"x": stretched["x"]}, stretched["c"], plain.rows)


def _strided(array: np.ndarray) -> np.ndarray:
    wide = np.full(2 * len(array), 77, dtype=array.dtype)
    wide[::2] = array
    return wide[::2]


def _unaligned(array: np.ndarray) -> np.ndarray:
    raw = np.zeros(array.nbytes + 1, dtype=np.uint8)
    raw[1:] = np.frombuffer(array.tobytes(), dtype=np.uint8)
    shifted = raw[1:].view(array.dtype)
    assert not shifted.flags.aligned
    return shifted


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _types() -> Iterator[Item]:
    """Every type that loses nothing."""
    times = [i * SECOND for i in range(9)]
    small = [0, 1, 2, 3, 100, 126, 127, 5, 0]
    for code in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", ">u2", ">i8", "f2", "f4", "f8", ">f8"):
        plain = _item(f"type-{code}", times, {"x": small})
        yield Item(plain.name, times, {"x": np.array(small, dtype=code)}, None, plain.rows)
    for unit, ns in {
        "ns": 1,
        "us": 10**3,
        "ms": 10**6,
        "s": SECOND,
        "m": 60 * SECOND,
        "h": 3600 * SECOND,
        "D": 86400 * SECOND,
    }.items():
        for order in "<>":
            plain = _item(f"type-{order}M8[{unit}]", [i * ns for i in range(-4, 5)], {"x": small})
            yield Item(plain.name, np.arange(-4, 5).astype(f"{order}M8[{unit}]"), {"x": small}, None, plain.rows)


def _holes() -> Iterator[Item]:
    dice = random.Random("holes")
    for n in (2, 9, 129):
        times, metrics = _random(n, f"holes-{n}")
        holed = {name: [value if dice.random() < 0.6 else None for value in column] for name, column in metrics.items()}
        holed["mem_usage@max"] = [dice.randrange(2**40) if dice.random() < 0.3 else None for _ in times]
        yield _item(f"holes-{n}", times, holed)
        plain = _item(f"holes-masked-{n}", times, holed)
        masked = {
            name: np.ma.array([7 if v is None else v for v in column], mask=[v is None for v in column], dtype=np.uint64)
            for name, column in holed.items()
        }
        yield Item(plain.name, np.array(times), masked, None, plain.rows)
    times = [EPOCH + i * SECOND for i in range(9)]
    yield _item("holes-disjoint", times, {"x": [1, None, 3] * 3, "y": [None, 2, None] * 3})
    yield _item("holes-first-and-last", times, {"x": [None] + [5] * 7 + [None], "y": [1] + [None] * 7 + [2]})
    yield _item("holes-some-rows-bare", times, {"x": [5, None, None] * 3})


def _counts() -> Iterator[Item]:
    dice = random.Random("counts")
    for n in (2, 9, 129):
        times, metrics = _random(n, f"counts-{n}")
        yield _item(f"counts-{n}", times, metrics, [dice.choice((1, 1, 2, 15, 3600)) for _ in times])
        metrics["x"] = [dice.choice(EDGES) if dice.random() < 0.7 else None for _ in times]
        metrics["x@max"] = [dice.choice(EDGES) if dice.random() < 0.3 else None for _ in times]
        yield _item(f"counts-holes-{n}", times, metrics, [dice.randrange(1, 2**63 // n) for _ in times])
    wide = [TIME_MIN, TIME_MIN, TIME_MAX, TIME_MAX]
    yield _item("counts-widest", wide, {"x": [2**64 - 1, 0, None, 2**64 - 1]}, [2**61, 2**61, 1, 2**61])
    yield _item("counts-all-one", [1, 2, 3], {"x": [4, 5, 6]}, [1, 1, 1])
