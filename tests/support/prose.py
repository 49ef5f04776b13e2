"""Check the prose below a folder against the glossary in `prose.toml`: ``python -m support.prose src``."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

RULES = tomllib.loads(Path(__file__).parents[1].joinpath("prose.toml").read_text(encoding="utf-8"))
WORDS = [(re.compile(pattern, re.IGNORECASE | re.MULTILINE), instead) for pattern, instead in RULES["words"].items()]
NAMES = [(re.compile(pattern), instead) for pattern, instead in RULES["names"].items()]
WANTED = re.compile(RULES["errors"]["got"])
CYTHON = {".pyx", ".pxd"}


class Text(NamedTuple):
    """A piece of prose, and the line that it begins at."""

    line: int
    text: str
    is_error: bool = False


class Fault(NamedTuple):
    """A word or a form that the glossary does not have."""

    line: int
    found: str
    instead: str


def faults_of(path: Path) -> Iterator[Fault]:
    """Yield the faults of one file."""
    source = path.read_text(encoding="utf-8")
    for text in texts_of(path, source):
        yield from faults_of_text(text)
    for line, name in names_of(path, source):
        yield from (Fault(line, name, instead) for pattern, instead in NAMES if pattern.fullmatch(name.strip("_")))


def faults_of_text(text: Text) -> Iterator[Fault]:
    """Yield the faults of one text: words, long sentences, and errors of another form. SQL is no prose."""
    if re.match(r"(SELECT|WITH|UPDATE|INSERT|ALTER) ", text.text):
        return
    prose = re.sub(r"``[^`]*``|`[^`]*`|'[^' ]*'", "X", plain(text.text))
    for pattern, instead in WORDS:
        for found in pattern.finditer(prose):
            yield Fault(text.line + prose.count("\n", 0, found.start()), found[0].strip().split("\n")[0][:60], instead)
    for sentence in re.split(r"[.:;?!](?=\s|$)|\n\s*\n|\n[ ]*[-*] ", prose):
        if len(sentence.split()) > RULES["longest_sentence"]:
            start = " ".join(sentence.split()[:5])
            yield Fault(text.line, f"{start}… ({len(sentence.split())} words)", "shorter sentences")
    if (text.is_error and re.search(r"\bgot\b", prose) and not re.search(r", got\b", prose)) or (
        text.is_error and re.search(r"\bgot\b", prose) and not WANTED.search(prose)
    ):
        yield Fault(text.line, prose[:60], "X must be Y, got Z; or: WHERE: expected X, got Y")


def plain(text: str) -> str:
    """Return a text without its examples and tables."""
    lines = text.split("\n")
    kept = [line if not re.match(r"\s*(>>>|\.\.\. |\||[-=]{3,})", line) else "" for line in lines]
    return "\n".join(kept)


def texts_of(path: Path, source: str) -> Iterator[Text]:
    """Yield docstrings, comments, and strings of three words or more."""
    if path.suffix in CYTHON:
        for found in re.finditer(r'"""(.*?)"""|#[: ]([^\n]*)', source, re.DOTALL):
            yield Text(source.count("\n", 0, found.start()) + 1, found[1] or found[2] or "")
        return
    tree = ast.parse(source)
    raised = {id(part) for node in ast.walk(tree) if isinstance(node, ast.Raise) for part in ast.walk(node)}
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)} - {
        id(node) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            text = node.value
        else:
            continue
        if len(text.split()) >= 3:
            yield Text(node.lineno, text, id(node) in raised)
    yield from comments_of(source)


def comments_of(source: str) -> Iterator[Text]:
    """Yield comments, lines that follow one another as one."""
    block: list[str] = []
    start = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT or token.string.startswith(("# noqa", "# type", "#:")):
            continue
        line = token.start[0]
        if block and line != last + 1:
            yield Text(start, "\n".join(block))
            block = []
        if not block:
            start = line
        block.append(token.string.lstrip("# "))
        last = line
    if block:
        yield Text(start, "\n".join(block))


def names_of(path: Path, source: str) -> Iterator[tuple[int, str]]:
    """Yield the names that a file gives."""
    if path.suffix in CYTHON:
        for found in re.finditer(r"^\s*(?:cdef|cpdef|def|ctypedef)\b[^\n=:]*?\b(\w+)\s*(?=[(=,\n:])", source, re.MULTILINE):
            yield source.count("\n", 0, found.start()) + 1, found[1]
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id


def main(folders: list[str]) -> int:
    """Print the faults of all files below some folders, and return 1 if there are any."""
    count = 0
    for path in sorted(path for folder in folders for path in Path(folder).rglob("*")):
        if path.suffix in CYTHON | {".py", ".pyi"}:
            for fault in sorted(set(faults_of(path))):
                print(f"{path}:{fault.line}: {fault.found!r}: write {fault.instead}")  # noqa: T201
                count += 1
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
