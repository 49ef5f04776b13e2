"""Plant mutants in the package, one at a time, and tell which ones the tests let live: ``make mutate``.

All mutants of a run stand in one build, each behind a switch: ``(a <= b if mutant_on(7) else a < b)``. So the compiled kernels
are compiled once, pytest collects once, and each mutant costs a fork and the tests that reach it, the quickest first, up to the
first that fails. Which tests reach it is asked of the switches themselves, in a run with none of them on.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.servers import run_mysql, run_postgres

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "mutate"
PACKAGE = Path("src/callstats")
CORE = ("_[a-z]*.py", "series.py", "batch.py", "reduce.py", "recorder.py", "rule.py", "call.py")
PYTHON = ("kernels/*_py.py", "kernels/_budget.py", *CORE, "db/**/*.py", "drivers/**/*.py")
CYTHON = ("kernels/*_cy.pyx", "kernels/_*.pxd")
NOT_MUTATED = {"_version.py", "_types.py", "testing.py", "_cy.py", "_py.py"}
TESTS = ("unit", "kernels", "databases", "processes", "docker")
LEFT_OUT = (
    *("test_build", "test_docs", "test_deploy", "test_layers"),
    *("test_mutation", "test_pictures", "test_prose", "test_typing", "test_workflows"),
)
MOST_SECONDS = 120
"""The most that the tests of one mutant may take together; slower tests, and those beyond, are left out."""

SWAPPED = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "+"),
    ast.FloorDiv: ("//", "*"),
    ast.Div: ("/", "*"),
    ast.Mod: ("%", "+"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.And: ("and", "or"),
    ast.Or: ("or", "and"),
}
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}

HEADER = """
#include <stdio.h>
#include <stdlib.h>
static int mutant_wanted = 0;
static unsigned char mutant_reached[100000];
static const char *mutant_told = NULL;
static inline void mutant_tell(int number) {
    FILE *file = fopen(mutant_told, "a");
    if (file != NULL) { fprintf(file, "%d\\n", number); fclose(file); }
}
static inline int mutant_on(int number) {
    if (mutant_told != NULL && !mutant_reached[number]) mutant_tell(number);
    mutant_reached[number] = 1;
    return number == mutant_wanted;
}
/* In a program that a test starts the environment says which mutant is on. */
static inline void mutant_start(void) {
    if (getenv("CALLSTATS_MUTANT") == NULL) return;
    mutant_wanted = atoi(getenv("CALLSTATS_MUTANT"));
    mutant_told = getenv("CALLSTATS_MUTANTS_REACHED");
}
"""
DECLARED = """
cdef extern from "mutant_on.h":
    bint mutant_on(int) noexcept nogil
    void mutant_start()
    int mutant_wanted
    unsigned char mutant_reached[100000]

"""
REACHED = """

def mutant_state(int wanted):
    global mutant_wanted
    mutant_wanted = wanted
    found = {number for number in range(100000) if mutant_reached[number]}
    for number in range(100000):
        mutant_reached[number] = 0
    return found

mutant_start()
"""
SWITCH = """
import os
wanted, reached = int(os.environ.get("CALLSTATS_MUTANT", "0")), set()
told = os.environ.get("CALLSTATS_MUTANTS_REACHED") if "CALLSTATS_MUTANT" in os.environ else None
def mutant_on(number):
    if told and number not in reached:
        with open(told, "a") as file:
            file.write(f"{number}\\n")
    reached.add(number)
    return number == wanted
"""


@dataclass(frozen=True)
class Change:
    """A piece of a file and what stands there instead. A statement's place is taken by nothing."""

    file: str
    start: int
    end: int
    old: str
    new: str | None
    line: int
    context: str

    def __str__(self) -> str:
        old, new = (" ".join(text.split()) for text in (self.old, self.new or ""))
        return f"{self.file}:{self.line}: {self.context}   [{old}]  ->  [{new}]"

    def planted(self, number: int) -> str:
        """The piece with its mutant behind a switch."""
        if self.new is None:
            return f"if not mutant_on({number}): {self.old}"
        return f"(({self.new}) if mutant_on({number}) else ({self.old}))"


# --- operators ---------------------------------------------------------------------------------------------------------------


def spans(text: str) -> Callable[[ast.AST], tuple[int, int]]:
    """Return what tells where a node of this text begins and ends: its columns count bytes of UTF-8."""
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def at(line: int, column: int) -> int:
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    return lambda node: (at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset))  # type: ignore[attr-defined]


def expressions(node: ast.AST, text: str, span: Callable[[ast.AST], tuple[int, int]]) -> Iterator[tuple[int, int, str]]:
    """Yield the places of this one expression's mutants, and the mutants."""
    start, end = span(node)

    def between(left: ast.AST, right: ast.AST, kind: type[ast.AST]) -> Iterator[tuple[int, int, str]]:
        if kind in SWAPPED:
            old, new = SWAPPED[kind]
            after, before = span(left)[1], span(right)[0]
            word = r"\s+".join(map(re.escape, old.split()))
            joined, n = re.subn(rf"(?<![<>=!/*&|\w]){word}(?![<>=/*&|\w])", new, text[after:before], count=1)
            if n:
                yield start, end, text[start:after] + joined + text[before:end]

    match node:
        case ast.Compare():
            for left, op, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
                yield from between(left, right, type(op))
        case ast.BinOp():
            texts = [side for side in (node.left, node.right) if isinstance(side, ast.JoinedStr | ast.Constant)]
            if not any(isinstance(side, ast.JoinedStr) or isinstance(side.value, str | bytes) for side in texts):
                yield from between(node.left, node.right, type(node.op))
        case ast.BoolOp():
            for left, right in zip(node.values, node.values[1:], strict=False):
                yield from between(left, right, type(node.op))
        case ast.UnaryOp(op=ast.Not()):
            yield start, end, text[start + 3 : end]
        case ast.Constant(value=bool() as value):
            yield start, end, str(not value)
        case ast.Constant(value=int() as value):
            yield start, end, str(value + 1)
        case ast.Call(func=ast.Name(id=name)) if name in CALLS:
            yield start, end, CALLS[name] + text[start + len(name) : end]
        case ast.IfExp():
            first, last = span(node.test)
            yield start, end, f"{text[start:first]}not ({text[first:last]}){text[last:end]}"


def inner(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the expressions below a node, without texts that are put together, patterns, types, functions' heads and `strict`."""
    if isinstance(node, ast.keyword) and node.arg == "strict":  # which only says that the lengths are equal
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "args") and not isinstance(node, ast.Call):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr | ast.pattern | ast.expr_context):
                yield from inner(child)


def python_changes(file: str, text: str) -> Iterator[Change]:
    """Yield the mutants of a Python file, inside functions only: what runs at import is over before a switch is turned."""
    span = spans(text)
    lines = text.splitlines()

    def change(start: int, end: int, new: str | None) -> Change:
        line = text.count("\n", 0, start) + 1
        return Change(file, start, end, text[start:end], new, line, lines[line - 1].strip())

    tree = ast.parse(text)
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        body = function.body[1:] if ast.get_docstring(function) is not None else function.body
        for node in (node for statement in body for node in inner(statement)):
            if isinstance(node, ast.expr) and any(
                isinstance(part, ast.Yield | ast.YieldFrom | ast.Starred) for part in ast.walk(node)
            ):
                continue
            if isinstance(node, ast.expr):
                yield from (change(*found) for found in expressions(node, text, span))
            match node:
                case ast.If(test=ast.Name() | ast.Attribute() | ast.Call() as test):
                    start, end = span(test)
                    yield change(start, end, f"not ({text[start:end]})")
                case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
                    yield change(*span(value), "None")
                case ast.Raise(exc=ast.Name(id="NotImplementedError")):
                    pass  # in a method of each subclass
                case (
                    ast.Expr(value=ast.Call())
                    | ast.AugAssign()
                    | ast.Raise()
                    | ast.Continue()
                    | ast.Delete()
                    | ast.Assign(targets=[ast.Attribute() | ast.Subscript()])
                ):
                    start, end = span(node)
                    if not text[text.rfind("\n", 0, start) + 1 : start].strip():
                        yield change(start, end, None)


FUNCTION = re.compile(r"( *)(?:cdef|cpdef|def)\b[^=(]*\(")
CAST = re.compile(
    r"(?:(?<=[(,=\[+*&|<>:-])|(?<=[(,=\[+*&|<>:-] )|(?<=return )|(?<=and )|(?<=or )|(?<=else )|^)<[a-zA-Z_][\w ]*\**>"
)
ADDRESS = re.compile(r"(?:(?<=[(,\[])|(?<=[=,] )|(?<=return )|^)&")
STATEMENT = re.compile(
    r"(?P<test>(?:if|elif|while) )(?P<condition>.*):$|(?P<return>return )(?P<value>.*)$"
    r"|(?P<declared>cdef [\w *.]+? \w+ = )(?P<first>[^=].*)$"
    r"|(?P<target>[\w.\[\], +*-]+ (?:[-+*|&]|<<|>>)?= )(?P<assigned>[^=].*)$|(?P<call>[\w.]+\(.*\))$",
    re.DOTALL,
)


def cython_changes(file: str, text: str) -> Iterator[Change]:
    """Yield the mutants of a Cython file: of each statement whose expression is Python's too, once casts are blanked out."""
    at, lines = 0, text.splitlines(keepends=True)
    depth: int | None = None  # of the function that a line is in
    head = False
    i = 0
    while i < len(lines):
        line, start = lines[i], at
        size = len(line) - len(line.lstrip())
        i, at = i + 1, at + len(line)
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if head or FUNCTION.match(line):
            depth = depth if head else size
            head = not line.split("  #")[0].rstrip().endswith(":")
            continue
        if depth is None or size <= depth:
            depth = None
            continue
        if line.strip().startswith('"""'):
            while line.count('"""') < 2 and i < len(lines):
                line, i, at = line + lines[i], i + 1, at + len(lines[i])
            continue
        while sum(map(line.count, "([{")) > sum(map(line.count, ")]}")) and i < len(lines):
            line, i, at = line + lines[i], i + 1, at + len(lines[i])
        found = STATEMENT.match(re.sub(r"  #.*", "", line).strip())
        if not found:
            continue
        begins = start + size
        number = text.count("\n", 0, begins) + 1
        context = lines[number - 1].strip()
        name = next(name for name in ("condition", "value", "first", "assigned", "call") if found[name] is not None)
        if "#" in line and "\n" in line.strip():
            continue  # a comment inside the statement
        first = begins + found.start(name)
        piece = text[first : first + len(found[name])]
        blank = ADDRESS.sub(" ", CAST.sub(lambda cast: " " * len(cast[0]), piece))
        if (found["target"] and re.search(r"[.\[]|[-+*|&<>]= $", found["target"])) or (
            found["call"] and not found["call"].startswith("sizeof")
        ):
            whole = text[begins : begins + len(found[0])]
            yield Change(file, begins, begins + len(whole), whole, None, number, context)
        try:
            tree = ast.parse(f"({blank})", mode="eval").body
        except SyntaxError:
            continue
        span = spans(f"({blank})")
        for node in inner(tree):
            if not isinstance(node, ast.expr):
                continue
            # Operators are put in the true text. A cast or an address before the first operand is of that operand alone.
            for left, right, new in expressions(node, f"({piece})", span):
                before = re.search(r"(?:<[a-zA-Z_][\w ]*\**>|&)+$", piece[: left - 1])
                own = (
                    before[0] if before and blank[before.start()] == " " and not isinstance(node, ast.Constant | ast.Call) else ""
                )
                start = first + left - 1 - len(own)
                yield Change(file, start, first + right - 1, own + piece[left - 1 : right - 1], own + new, number, context)


def candidates(patterns: Sequence[str]) -> list[Change]:
    """All mutants of some files, each once."""
    found: dict[Change, None] = {}
    for pattern in patterns:
        for path in sorted((ROOT / PACKAGE).glob(pattern)):
            if path.name not in NOT_MUTATED:
                make = python_changes if path.suffix == ".py" else cython_changes
                found.update(dict.fromkeys(make(path.relative_to(ROOT / PACKAGE).as_posix(), path.read_text(encoding="utf-8"))))
    return list(found)


def sample(changes: Sequence[Change], n: int, rng: random.Random) -> list[Change]:
    """Draw up to n mutants of which no two overlap."""
    taken: dict[str, list[Change]] = defaultdict(list)
    drawn: list[Change] = []
    for change in rng.sample(changes, len(changes)):
        if len(drawn) == n:
            break
        if all(change.end <= other.start or other.end <= change.start for other in taken[change.file]):
            taken[change.file].append(change)
            drawn.append(change)
    return drawn


# --- the build ---------------------------------------------------------------------------------------------------------------


def plant(mutants: dict[int, Change]) -> None:
    """Copy the package with all mutants in it."""
    shutil.rmtree(BUILD, ignore_errors=True)
    shutil.copytree(ROOT / "src", BUILD / "src", ignore=shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, BUILD)
    setup = BUILD / "setup.py"
    setup.write_text(setup.read_text().replace('"-O3"', '"-O1"'))
    (BUILD / "mutant_on.h").write_text(HEADER)
    (BUILD / "src" / "mutant_on.py").write_text(SWITCH)
    by_file: dict[str, list[tuple[int, Change]]] = defaultdict(list)
    for number, change in mutants.items():
        by_file[change.file].append((number, change))
    for path in (BUILD / PACKAGE).glob("kernels/*_cy.pyx"):
        by_file.setdefault(path.relative_to(BUILD / PACKAGE).as_posix(), [])
    for file, changes in by_file.items():
        path = BUILD / PACKAGE / file
        text = path.read_text(encoding="utf-8")
        for number, change in sorted(changes, key=lambda found: -found[1].start):
            assert text[change.start : change.end] == change.old
            text = text[: change.start] + change.planted(number) + text[change.end :]
        if path.suffix == ".py":
            future = "from __future__ import annotations\n"
            assert future in text, file
            text = text.replace(future, future + "from mutant_on import mutant_on\n", 1)
        else:
            first = re.search(r"^(from|import|cimport|cdef)\b", text, re.MULTILINE)
            assert first is not None
            text = text[: first.start()] + DECLARED.lstrip() + text[first.start() :]
            text += REACHED if path.suffix == ".pyx" else ""
        path.write_text(text, encoding="utf-8")


def compiled(mutants: dict[int, Change]) -> dict[int, Change]:
    """Plant and compile. What the compiler doesn't take is no mutant: leave it out, and compile again."""
    if all(change.file.endswith(".py") for change in mutants.values()):
        plant(mutants)
        for path in (ROOT / PACKAGE).glob("kernels/*.so"):
            shutil.copy(path, BUILD / PACKAGE / "kernels")
        return mutants
    for _ in range(8):
        plant(mutants)
        built = subprocess.run(
            [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
            cwd=BUILD,
            env={**os.environ, "CFLAGS": f"-I{BUILD} -w", "CALLSTATS_BUILD_EXT": "require"},
            capture_output=True,
            text=True,
            check=False,
        )
        if built.returncode == 0:
            return mutants
        bad = set()
        for file, line in re.findall(r"kernels/(\w+\.px[yd]):(\d+):", built.stderr + built.stdout):
            text = (BUILD / PACKAGE / "kernels" / file).read_text(encoding="utf-8").splitlines()[int(line) - 1]
            bad |= {int(number) for number in re.findall(r"mutant_on\((\d+)\)", text)}
        if not bad:
            raise SystemExit(built.stderr[-4000:] + built.stdout[-4000:])
        mutants = {number: change for number, change in mutants.items() if number not in bad}
    raise SystemExit("the compiler refuses mutants without end")


# --- the run -----------------------------------------------------------------------------------------------------------------


def turn(wanted: int) -> set[int]:
    """Turn a switch on, 0 for none, and return which ones were passed since the last turn."""
    switch = importlib.import_module("mutant_on")
    switch.wanted = wanted
    found = set(switch.reached)
    switch.reached.clear()
    os.environ["CALLSTATS_MUTANT"] = str(wanted)
    for path in (BUILD / PACKAGE / "kernels").glob("*_cy.pyx"):
        kernel = importlib.import_module(f"callstats.kernels.{path.stem}")
        found |= kernel.mutant_state(wanted) if hasattr(kernel, "mutant_state") else set()
    return found


class Runner:
    """Run each mutant in a fork, once pytest has collected."""

    def __init__(self, mutants: dict[int, Change], jobs: int, *, reach: bool) -> None:
        self.mutants, self.jobs, self.reach = mutants, jobs, reach
        self.fates: dict[int, str] = {}

    def pytest_collection(self) -> None:
        """Take the examples of Hypothesis as they come: no test of a mutant needs its failure made small."""
        from hypothesis import Phase, settings

        few = settings(settings.get_profile("ci"), phases=[Phase.explicit, Phase.generate], database=None)
        settings.register_profile("mutants", few)
        settings.load_profile("mutants")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Ask which tests reach which mutants, and run those over each."""
        started = time.monotonic()
        reached = self.reached(session.items)
        say(f"{len(session.items)} tests, {len(self.mutants)} mutants; recorded within {time.monotonic() - started:.0f} s")
        if self.reach:
            for number in sorted(
                self.mutants.keys() - reached.keys(), key=lambda n: (self.mutants[n].file, self.mutants[n].line)
            ):
                say(f"not reached: {self.mutants[number]}")
            say(f"{len(reached)} of {len(self.mutants)} places are reached")
            return True
        running: dict[int, tuple[int, float]] = {}
        try:
            self.run_all(session.items, reached, running)
        finally:
            for child in running:
                os.killpg(child, signal.SIGKILL)
        return True

    def run_all(
        self,
        items: Sequence[pytest.Item],
        reached: dict[int, list[tuple[int, float]]],
        running: dict[int, tuple[int, float]],
    ) -> None:
        """Run each mutant's tests, so many at once: by process, the number of the mutant and when to end it."""
        left = sorted(self.mutants)
        while left or running:
            while left and len(running) < self.jobs:
                number = left.pop()
                tests = sorted(reached[number], key=lambda found: found[1])
                while len(tests) > 1 and sum(seconds for _, seconds in tests) > MOST_SECONDS:
                    tests.pop()
                if not tests:
                    self.tell(number, "not reached")
                    continue
                child = forked(lambda number=number, tests=tests: self.run([(items[i], took) for i, took in tests], number))
                running[child] = number, time.monotonic() + 20 + 6 * sum(seconds for _, seconds in tests)
            time.sleep(0.02)
            for child, (number, end) in list(running.items()):
                done, status = os.waitpid(child, os.WNOHANG)
                if not done and time.monotonic() > end:
                    os.killpg(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                    done, status = child, signal.SIGKILL
                if done:
                    del running[child]
                    with suppress(ProcessLookupError):  # what its tests have started
                        os.killpg(child, signal.SIGKILL)
                    self.tell(number, {0: "SURVIVED", 256: "killed"}.get(status, "killed by a crash or without end"))

    def tell(self, number: int, fate: str) -> None:
        """Keep what became of a mutant, and print it if it lives."""
        self.fates[number] = fate
        if not fate.startswith("killed"):
            say(f"{len(self.fates)}: {fate}: {self.mutants[number]}")

    def run(self, tests: Sequence[tuple[pytest.Item, float]], number: int) -> int:
        """Run tests up to the first that fails. One that takes much longer than its seconds has no end."""
        turn(number)
        for (item, seconds), following in zip(tests, [*(item for item, _ in tests[1:]), None], strict=True):
            signal.alarm(20 + int(6 * seconds))
            if not passed(item, following):
                item.session._setupstate.teardown_exact(None)  # else an engine of containers stays
                return 1
        return 0

    def reached(self, items: Sequence[pytest.Item]) -> dict[int, list[tuple[int, float]]]:
        """Each mutant's tests, by place, with the seconds they take; a test that fails as it is tells nothing."""
        parts: list[list[int]] = [[] for _ in range(self.jobs)]
        modules: dict[Path, int] = {}
        for i, item in enumerate(items):
            parts[modules.setdefault(item.path, len(modules) % self.jobs)].append(i)

        def record(part: int) -> int:
            told = BUILD / f"reached-{part}"
            os.environ["CALLSTATS_MUTANTS_REACHED"] = str(told)
            found = []
            for done, (i, following) in enumerate(zip(parts[part], [*parts[part][1:], None], strict=True)):
                if done % 500 == 499:
                    say(f"{done + 1} of {len(parts[part])} tests are recorded")
                told.write_text("")
                turn(0)
                before = time.monotonic()
                good = passed(items[i], None if following is None else items[following])
                seconds = time.monotonic() - before
                numbers = turn(0) | set(map(int, told.read_text().split()))
                if good:
                    found.append((i, seconds, numbers))
                else:
                    say(f"fails without a mutant: {items[i].nodeid}")
            (BUILD / f"tests-{part}").write_bytes(pickle.dumps(found))
            return 0

        for child in [forked(lambda part=part: record(part)) for part in range(self.jobs)]:
            os.waitpid(child, 0)
        reached: dict[int, list[tuple[int, float]]] = defaultdict(list)
        for part in range(self.jobs):
            for i, seconds, numbers in pickle.loads((BUILD / f"tests-{part}").read_bytes()):
                for number in numbers:
                    reached[number].append((i, seconds))
        return reached


def passed(item: pytest.Item, following: pytest.Item | None) -> bool:
    """Run one test, and return whether nothing of it failed."""
    from _pytest.runner import runtestprotocol

    return not any(report.failed for report in runtestprotocol(item, log=False, nextitem=following))


@contextmanager
def servers() -> Iterator[None]:
    """Run the database servers that are installed once for all tests, which make databases of their own in them."""
    with ExitStack() as running:
        for name, run in (("CALLSTATS_POSTGRES_URL", run_postgres), ("CALLSTATS_MYSQL_URL", run_mysql)):
            with suppress(pytest.skip.Exception):
                server = next(running.enter_context(closing(run())))  # type: ignore[type-var]
                os.environ[name] = server.url("postgres")
        yield


def forked(work: Callable[[], int]) -> int:
    """Do the work in a process of its own, which leads a group."""
    child = os.fork()
    if child:
        return child
    code = 2
    try:
        os.setpgid(0, 0)
        code = work()
    finally:
        os._exit(code)


OUT = os.dup(2)  # standard error, past pytest's capture


def say(text: str) -> None:
    """Print at once."""
    os.write(OUT, f"{text}\n".encode())


def equivalents() -> Iterable[tuple[str, str, str]]:
    """The mutants that change nothing that a test could see: file, old and new text."""
    listed = tomllib.loads((ROOT / "tests" / "equivalents.toml").read_text(encoding="utf-8"))
    return {(found["file"], found["line"], found["new"]) for found in listed.get("mutant", [])}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print each mutant that lives, and the score; 1 if it is below what is asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cython", type=int, default=120, metavar="N", help="mutants of the compiled kernels")
    parser.add_argument("--python", type=int, default=400, metavar="N", help="mutants of kernels, core, db and drivers in Python")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", metavar="TEXT", help="only mutants of files whose path has this")
    parser.add_argument("--reach", action="store_true", help="print only the places that no test reaches")
    parser.add_argument("--again", type=Path, metavar="LOG", help="only the mutants that an earlier run printed as alive")
    parser.add_argument("--least", type=float, nargs=2, default=(95, 90), metavar="PERCENT", help="of each that must be noticed")
    parser.add_argument("tests", nargs="*", default=[f"tests/{name}" for name in TESTS])
    wanted = parser.parse_args(arguments)
    rng = random.Random(wanted.seed)
    known = equivalents()
    again = None if wanted.again is None else set(re.findall(r"^\d+: [\w ]+: (.*)", wanted.again.read_text(), re.MULTILINE))
    drawn: list[list[Change]] = []
    for patterns, n in ((CYTHON, wanted.cython), (PYTHON, wanted.python)):
        found = [change for change in candidates(patterns) if wanted.only in change.file]
        if again is not None:
            found = [change for change in found if str(change) in again]
        drawn.append(sample([change for change in found if (change.file, change.context, change.new or "") not in known], n, rng))
        say(f"{len(drawn[-1])} of {len(found)} mutants in {patterns[0]} and others")
    mutants = compiled(dict(enumerate([*drawn[0], *drawn[1]], 1)))
    os.environ.update(PYTHONPATH=f"{BUILD / 'src'}{os.pathsep}{ROOT / 'tests'}", CI="1", PYTHONDONTWRITEBYTECODE="1")
    sys.path[:0] = [str(BUILD / "src")]
    import callstats

    assert Path(callstats.__file__).is_relative_to(BUILD), callstats.__file__
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    runner = Runner(mutants, wanted.jobs, reach=wanted.reach)
    left_out = " or ".join([*LEFT_OUT, *([] if wanted.python else ["python"])])
    options = [f"-p no:{name}" for name in ("cacheprovider", "terminal", "faulthandler")] + ["-k", f"not ({left_out})"]
    with servers():
        pytest.main([*options, *wanted.tests], plugins=[runner])
    if wanted.reach:
        return 0
    code = 0
    for name, changes, least in (("Cython", drawn[0], wanted.least[0]), ("Python", drawn[1], wanted.least[1])):
        ran = Counter(runner.fates[number] for number, change in mutants.items() if change in set(changes))
        killed = sum(n for fate, n in ran.items() if fate.startswith("killed"))
        share = 100 * killed / max(ran.total(), 1)
        print(f"{name}: {killed} of {ran.total()} mutants were noticed, {share:.1f} %; {dict(ran)}")
        code |= bool(ran) and share < least
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
