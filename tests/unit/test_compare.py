"""The program that decides whether a change made the benchmarks slower."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from compare import Change, changes, main, medians, table


def run(path: Path, **medians_by_name: float) -> Path:
    """What pytest-benchmark writes, as far as it is read."""
    benchmarks = [{"fullname": name, "stats": {"median": median}} for name, median in medians_by_name.items()]
    path.write_text(json.dumps({"benchmarks": benchmarks}))
    return path


def test_the_smallest_median_of_a_side_counts(tmp_path: Path) -> None:
    """One slow run of two does no harm."""
    files = [run(tmp_path / "1", a=2.0, b=1.0), run(tmp_path / "2", a=1.5, b=3.0)]
    assert medians(files) == {"a": 1.5, "b": 1.0}


def test_only_what_both_have_is_compared() -> None:
    """A benchmark of one side only is left out, and the most slowed down comes first."""
    found = changes({"a": 1.0, "b": 1.0, "gone": 1.0}, {"a": 1.1, "b": 2.0, "new": 9.0})
    assert found == [Change("b", 1.0, 2.0), Change("a", 1.0, 1.1)]


def test_the_table_marks_what_is_slower() -> None:
    """Times have units that people read."""
    found = [Change("a", 2.5e-6, 5e-6), Change("b", 0.0125, 0.0125), Change("c", 1.5, 1.2), Change("d", 1.0, 1.2, (1.1, 1.01))]
    assert table(found, 1.3)[2:] == [
        "| a | 2.5 us | 5 us | 2.00 | 2.00 **slower** |",
        "| b | 12.5 ms | 12.5 ms | 1.00 | 1.00 |",
        "| c | 1.5 s | 1.2 s | 0.80 | 0.80 |",
        "| d | 1 s | 1.2 s | 1.20 | 1.32 **slower** |",
    ]


@pytest.mark.parametrize(("head", "code"), [(1.24, 0), (1.26, 1), (0.5, 0)])
def test_what_is_slower_than_the_ratio_decides(
    tmp_path: Path, head: float, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """1.25 times is the most, unless another ratio is given."""
    base, other = run(tmp_path / "base", a=1.0, b=1.0), run(tmp_path / "head", a=head, b=1.0)
    assert main(["--base", str(base), "--head", str(other)]) == code
    assert ("a got slower" in capsys.readouterr().err) == bool(code)
    assert main(["--base", str(base), "--head", str(other), "--most", "1.4"]) == 0


def test_nothing_in_common_is_no_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two sides without a common benchmark are an error, not a success."""
    assert main(["--base", str(run(tmp_path / "base", a=1.0)), "--head", str(run(tmp_path / "head", b=1.0))]) == 2
    assert "nothing to compare" in capsys.readouterr().err


def test_the_summary_is_appended_to(tmp_path: Path) -> None:
    """A file for the table, which may hold other things already."""
    summary = tmp_path / "summary.md"
    summary.write_text("# Before\n")
    base = run(tmp_path / "base", a=1.0)
    assert main(["--base", str(base), "--head", str(base), "--summary", str(summary)]) == 0
    assert summary.read_text().startswith("# Before\n| benchmark |")
