"""Times from text and to text."""

from __future__ import annotations

import numpy as np
import pytest

from callstats import CallstatsError
from callstats._timestamps import format_times, parse_date_or_time, parse_time

SECOND = 10**9


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2023-11-14T22:13:20Z", 1_700_000_000 * SECOND),
        ("2023-11-15t00:13:20.5+02:00", 1_700_000_000 * SECOND + SECOND // 2),
        ("2023-11-14T23:12:20+00:59", 1_700_000_000 * SECOND),
        ("2023-11-14 20:13:20.1234567891-02:00", 1_700_000_000 * SECOND + 123_456_789),
    ],
)
def test_times(text: str, ns: int) -> None:
    """RFC 3339, to the nanosecond."""
    assert parse_time(text) == parse_date_or_time(text) == ns


def test_dates() -> None:
    """A date is its midnight in UTC, and a time of a series it is not."""
    assert parse_date_or_time("2023-11-14") == 1_699_920_000 * SECOND
    with pytest.raises(CallstatsError, match="expected an RFC 3339 time, got '2023-11-14'"):
        parse_time("2023-11-14")


@pytest.mark.parametrize(
    "text", ["", "soon", "2023-02-29", "2023-11-14T22:13:20", "20231114", "1600-01-01", "2023-1-1", "٢٠٢٣-11-14"]
)
def test_wrong_times(text: str) -> None:
    """The error shows the forms and the text."""
    with pytest.raises(CallstatsError, match=f"^time must be a date or an RFC 3339 time, such as 2026-10-26, .*, got '{text}'"):
        parse_date_or_time(text)


@pytest.mark.parametrize("text", ["1677-09-21T00:12:43Z", "2262-04-11T23:47:17Z", "0001-01-01T00:00:00Z"])
def test_times_out_of_range(text: str) -> None:
    """The error shows the first and the last time, as they are written."""
    with pytest.raises(CallstatsError) as caught:
        parse_time(text)
    first, last = "1677-09-21T00:12:43.146Z", "2262-04-11T23:47:16.854Z"
    assert str(caught.value) == f"expected a time from {first} to {last}, got {text!r}"


def test_text_of_times() -> None:
    """Floored to the digits asked for, before 1970 too."""
    times = np.array([-1, 0, 1_700_000_000 * SECOND + 123_456_789], dtype=np.int64)
    assert format_times(times) == ["1969-12-31T23:59:59.999Z", "1970-01-01T00:00:00.000Z", "2023-11-14T22:13:20.123Z"]
    assert format_times(times, 9)[2] == "2023-11-14T22:13:20.123456789Z"
