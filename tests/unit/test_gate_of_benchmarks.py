"""What the comparison of benchmarks finds: slowdowns planted into the figures of a real run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from compare import NOTES, Notes, changes, main, page, read_history, read_notes

MEDIANS = {
    "benchmarks/test_decimate.py::test_means[cython]": 1.31e-3,
    "benchmarks/test_recorder.py::test_samples[cython]": 4.07e-2,
    "benchmarks/test_text.py::test_reduce[cython]": 2.72e-4,
}
"""Seconds, as one machine took."""

MEANS, SAMPLES, REDUCE = MEDIANS
SWAY = (1.012, 0.991, 1.018, 0.984, 1.0, 1.021, 0.993)
"""How two runs of one commit differ."""

Run = Callable[..., tuple[int, str]]


def written(path: Path, seconds: dict[str, float]) -> Path:
    """A file as pytest-benchmark writes it."""
    path.write_text(json.dumps({"benchmarks": [{"fullname": name, "stats": {"median": s}} for name, s in seconds.items()]}))
    return path


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Compare two sides and keep this change's line as the workflow does: the exit code, and what is said of faults."""
    history = tmp_path / "history.jsonl"

    def compare(head: dict[str, float], base: dict[str, float] = MEDIANS, notes: str = "") -> tuple[int, str]:
        (tmp_path / "notes.toml").write_text(notes)
        line = tmp_path / "line.json"
        options: list[Any] = ["--history", history, "--notes", tmp_path / "notes.toml", "--line", line, "--commit", "0" * 40]
        sides = ["--base", written(tmp_path / "base.json", base), "--head", written(tmp_path / "head.json", head)]
        code = main([str(option) for option in (*options, *sides)])
        with history.open("a") as file:
            file.write(line.read_text())
        return code, capsys.readouterr().err

    return compare


def slowed(name: str, times: float, turn: int = 0) -> dict[str, float]:
    """The figures with one benchmark slower, and each as far off as another run would be."""
    return {
        other: seconds * SWAY[(turn + i) % len(SWAY)] * (times if other == name else 1)
        for i, (other, seconds) in enumerate(MEDIANS.items())
    }


def test_noise_is_no_slowdown(run: Run) -> None:
    """Twenty changes that change nothing are taken, one after another."""
    for turn in range(20):
        assert run(slowed("", 1, turn)) == (0, "")


@pytest.mark.parametrize("turn", range(len(SWAY)))
def test_at_once(run: Run, turn: int) -> None:
    """A benchmark that takes 1.3 times as long is named, and no other."""
    code, said = run(slowed(REDUCE, 1.3, turn))
    assert code == 1
    assert said.startswith(f"{REDUCE} got slower: 1.")
    assert said.count("\n") == 1


@pytest.mark.parametrize("between", range(4))
def test_bit_by_bit(run: Run, between: int) -> None:
    """Three steps of 1.1 are named at the third, with up to three changes between them that change nothing."""
    turn = 0
    for step in (1, 2, 3):
        code, said = run(slowed(SAMPLES, 1.1, turn=0))
        assert code == (step == 3)
        for _ in range(between if step < 3 else 0):
            turn += 1
            assert run(slowed("", 1, turn))[0] == 0
    assert said.startswith(f"{SAMPLES} got slower bit by bit: 1.3")
    assert f"over {3 + 2 * between} changes" in said
    assert said.count("\n") == 1


def test_changes_long_ago_are_over(run: Run) -> None:
    """What lies more than ten changes back is no longer counted, and what was made faster again never."""
    for _ in range(2):
        assert run(slowed(SAMPLES, 1.1))[0] == 0
    for turn in range(9):
        assert run(slowed("", 1, turn))[0] == 0
    assert run(slowed(SAMPLES, 1.1))[0] == 0
    assert run(slowed(SAMPLES, 1 / 1.1))[0] == 0
    assert run(slowed(SAMPLES, 1.1))[0] == 0


def renamed(figures: dict[str, float]) -> dict[str, float]:
    """The figures with one benchmark under another name."""
    return {NEW if name == MEANS else name: seconds for name, seconds in figures.items()}


NEW = "benchmarks/test_decimate.py::test_averages[cython]"
NOTE = f'[renamed]\n"{MEANS}" = "{NEW}"\n'


def test_a_renamed_benchmark(run: Run) -> None:
    """Without a note it is named and refused. With one it is compared with its old self, in this change and in those before."""
    code, said = run(renamed(slowed(MEANS, 1.5)))
    assert code == 1
    assert said == f"{MEANS} is gone: say in benchmarks/renamed.toml what it is called now, or why it was removed\n"
    assert run(renamed(slowed("", 1)), notes=NOTE) == (0, "")
    code, said = run(renamed(slowed(MEANS, 1.5)), notes=NOTE)
    assert code == 1
    assert said.startswith(f"{NEW} got slower: 1.5")


def test_a_renamed_benchmark_drifts_on(run: Run) -> None:
    """Steps under two names are one drift."""
    assert run(slowed(MEANS, 1.1))[0] == 0
    assert run(renamed(slowed(MEANS, 1.1)), notes=NOTE)[0] == 0
    code, said = run(renamed(slowed(MEANS, 1.1)), base=renamed(MEDIANS), notes=NOTE)
    assert (code, said.startswith(f"{NEW} got slower bit by bit: 1.3")) == (1, True)


def test_a_removed_benchmark(run: Run) -> None:
    """It needs a note that says why; a new one needs none."""
    head = {name: seconds for name, seconds in MEDIANS.items() if name != REDUCE} | {"benchmarks/test_new.py::test_new": 1.0}
    assert run(head)[0] == 1
    assert run(head, notes=f'[removed]\n"{REDUCE}" = "it measured nothing"\n') == (0, "")


def test_names_that_go_round() -> None:
    """Notes that lead in a circle end."""
    assert Notes({"a": "b", "b": "a"}).now("a") in ("a", "b")
    assert [change.name for change in changes({"a": 1}, {"c": 1}, Notes({"a": "b", "b": "c"}))] == ["c"]


def test_the_page(tmp_path: Path) -> None:
    """A row for each benchmark and a column for each of the last ten commits, with gaps where one was not measured."""
    assert page([]) == ["No commit has been measured yet."]
    lines = [{"commit": f"{i:040}", "ratios": {"a": 1.1} if i % 2 else {"a": 1.0, "b": 0.5}} for i in range(12)]
    file = tmp_path / "history.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    head, _, a, b = page(read_history(file))
    assert head.count("0000000") == 10
    assert a == f"| a | {' | '.join(['1.00', '1.10'] * 5)} | {1.1**5:.2f} |"
    assert b == f"| b | {' | '.join(['0.50', ''] * 5)} | {0.5**5:.2f} |"


def test_the_notes_of_this_tree() -> None:
    """They can be read, and say something of each benchmark they name."""
    notes = read_notes(NOTES)
    assert all(notes.renamed.values())
    assert all(notes.removed.values())
