"""The check of the package's prose: each of its rules finds a fault, and lets plain text pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.prose import RULES, Text, faults_of, faults_of_text

BAD = [
    "The least value.",
    "A mean weighed by counts.",
    "Rows that are told of at the end.",
    "Bad rows are refused.",
    "The job goes on.",
    "It does without the column.",
    "Such rows are left alone.",
    "Young rows are passed over.",
    "Both twins give the same.",
    "Settle the columns.",
    "The general route decides.",
    "Text of the written shape.",
    "The place of the first blob.",
    "The figures of a call.",
    "The worlds outside.",
    "Return that which is left.",
    "Return the ones that are left.",
    "What a column holds.",
    "Do several things.",
    "The same to the letter.",
]
GOOD = [
    "The min of at least two values, weighted by counts.",
    "Reject rows in place.",
    "Return the index of the first blob. Continue without the column.",
    "What is this?",
]


@pytest.mark.parametrize("text", BAD)
def test_words_outside_the_glossary_are_found(text: str) -> None:
    """Each has another word to be written instead."""
    assert [fault.instead for fault in faults_of_text(Text(1, text))]


def test_every_rule_finds_something() -> None:
    """No pattern is there that nothing matches."""
    found = {fault.instead for text in BAD for fault in faults_of_text(Text(1, text))}
    assert set(RULES["words"].values()) <= found


@pytest.mark.parametrize("text", GOOD)
def test_plain_text_passes(text: str) -> None:
    """Words of the glossary are not mistaken for others."""
    assert list(faults_of_text(Text(1, text))) == []


def test_long_sentences_are_found() -> None:
    """A sentence has an end."""
    assert list(faults_of_text(Text(1, "word " * 31)))
    assert not list(faults_of_text(Text(1, "word " * 20 + ". " + "word " * 20)))


@pytest.mark.parametrize(
    ("message", "right"),
    [
        ("X must be 1 or more, got X", True),
        ("X: expected a number, got X", True),
        ("X must be 1 or more: got X", False),
        ("bad value X, got it", False),
    ],
)
def test_errors_have_one_form(message: str, right: bool) -> None:
    """A message that says what it got says before what it wanted."""
    assert (list(faults_of_text(Text(1, message, is_error=True))) == []) is right


def test_names_comments_and_cython(tmp_path: Path) -> None:
    """Names, comments and docstrings are read in both languages."""
    for suffix in (".py", ".pyx"):
        path = tmp_path / f"x{suffix}"
        path.write_text('"""Say it plainly."""\n# it goes on\ndef refuse(a):\n    """Bad rows are refused."""\n')
        assert sorted(fault.line for fault in faults_of(path)) == [2, 3, 4]
