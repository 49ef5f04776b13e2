"""What a build gives: kernels or none of them, a tag that says which, and nothing of the place it was built in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
SWITCHES = ("CALLSTATS_", "CC", "CFLAGS", "LDFLAGS", "PYTEST_", "PYTHONPATH")
compiles = pytest.mark.skipif(os.environ.get("CALLSTATS_BUILD_EXT") == "skip", reason="only the pure half was asked for")


def run(*command: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these switches and none of those that the tests themselves run under."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SWITCHES)}
    command = (sys.executable, *command)
    return subprocess.run(command, cwd=cwd, env=kept | env, capture_output=True, text=True, timeout=300, check=False)


def build(tree: Path, to: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Build a wheel of a tree by what pip calls for it."""
    return run("-c", f"from setuptools import build_meta; build_meta.build_wheel({str(to)!r})", cwd=tree, TMPDIR=str(to), **env)


def build_by_pip(source: Path, to: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Build a wheel as `pip install` does, from a tree or an sdist."""
    to.mkdir(exist_ok=True)
    options = ["--verbose", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", "."]
    return run("-m", "pip", "wheel", *options, source, cwd=to, TMPDIR=str(to), **env)


def only_wheel(folder: Path) -> Path:
    (wheel,) = folder.glob("*.whl")
    return wheel


def names(wheel: Path) -> list[str]:
    return zipfile.ZipFile(wheel).namelist()


def is_pure(wheel: Path) -> bool:
    """Whether a wheel is pure, provided that its name, its metadata and its files agree on it."""
    meta = zipfile.ZipFile(wheel).read("callstats-0.1.0.dist-info/WHEEL").decode()
    fields = Parser().parsestr(meta)
    answers = {
        wheel.name.endswith("-py3-none-any.whl"),
        fields["Tag"] == "py3-none-any",
        fields["Root-Is-Purelib"] == "true",
        not [name for name in names(wheel) if name.endswith((".so", ".pyd", ".dylib"))],
    }
    assert len(answers) == 1, (wheel.name, meta, names(wheel))
    return answers.pop()


def unpack(wheel: Path, to: Path) -> Path:
    zipfile.ZipFile(wheel).extractall(to)
    return to


def backend_of(installed: Path, **env: str) -> str:
    """Import the package from a folder, in a fresh process with warnings as errors: the backend, or the error's last line."""
    script = f"import callstats; assert callstats.__file__.startswith({str(installed)!r}); print(callstats.backend)"
    done = run("-W", "error", "-c", script, cwd=installed.parent, PYTHONPATH=str(installed), **env)
    return (done.stdout or done.stderr).strip().splitlines()[-1]


def copy_tree(to: Path) -> Path:
    """Copy this tree, less anything built."""
    products = ("*.so", "*.pyd", "*.c", "*.egg-info", "__pycache__", ".git", ".venv*", ".*_cache", "build", "dist", "demo.db*")
    return shutil.copytree(ROOT, to / "tree", ignore=shutil.ignore_patterns(*products))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return copy_tree(tmp_path)


@pytest.fixture
def small_kernels(tree: Path) -> Path:
    """Give the tree two kernels that compile quickly, and no others."""
    kernels = tree / "src/callstats/kernels"
    for file in kernels.glob("*.p[yx][xdi]"):
        file.unlink()
    for name in ("first_cy", "second_cy"):
        (kernels / f"{name}.pyx").write_text("def one():\n    return 1\n")
    return tree


@pytest.fixture(scope="module")
def pure_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pure")
    assert build(copy_tree(folder), folder, CALLSTATS_BUILD_EXT="skip").returncode == 0
    return only_wheel(folder)


@pytest.fixture
def pure(pure_wheel: Path, tmp_path: Path) -> Path:
    """Unpack a pure wheel of this tree: a place to import from."""
    return unpack(pure_wheel, tmp_path / "pure")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    tree = copy_tree(folder)
    done = run("-c", f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})", cwd=tree)
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(tree)
    return folder / "callstats-0.1.0.tar.gz"


@pytest.fixture(scope="module")
def compiled(sdist: Path) -> Path:
    """Build the wheel of the sdist, away from the tree."""
    to = sdist.parent / "compiled"
    compiler = sdist.parent / "cc"  # what is looked at is not how fast the kernels are
    compiler.write_text(f'#!/bin/sh\nexec {sysconfig.get_config_var("CC")} "$@" -O0\n')
    compiler.chmod(0o755)
    done = build_by_pip(sdist, to, CALLSTATS_BUILD_EXT="require", CC=str(compiler))
    assert done.returncode == 0, done.stdout + done.stderr
    return only_wheel(to)


class TestSwitch:
    def test_auto_without_a_compiler_is_loudly_pure(self, tree: Path, tmp_path: Path) -> None:
        """The wheel says that it is pure, works, and names its backend."""
        done = build_by_pip(tree, tmp_path, CALLSTATS_BUILD_EXT="auto", CC="/bin/false")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "This is a PURE PYTHON build" in done.stdout + done.stderr
        assert is_pure(only_wheel(tmp_path))
        installed = unpack(only_wheel(tmp_path), tmp_path / "installed")
        assert backend_of(installed, CALLSTATS_BACKEND="python") == "python"
        assert backend_of(installed).startswith("RuntimeWarning: callstats uses its Python kernels")
        command = "import sys; from callstats.cli import main; sys.argv = ['callstats', '--version']; main()"
        version = run("-c", command, cwd=tmp_path, PYTHONPATH=str(installed))
        assert version.returncode == 0, version.stderr
        assert re.search(r"0\.1\.0\b.*\bpython\b", version.stdout), version.stdout

    def test_auto_is_the_default(self, small_kernels: Path, tmp_path: Path) -> None:
        done = build(small_kernels, tmp_path, CC="/bin/false")
        assert done.returncode == 0, done.stdout + done.stderr
        assert is_pure(only_wheel(tmp_path))

    def test_require_without_a_compiler_fails(self, small_kernels: Path, tmp_path: Path) -> None:
        done = build(small_kernels, tmp_path, CALLSTATS_BUILD_EXT="require", CC="/bin/false")
        assert done.returncode != 0
        assert "the compiled kernels can't be built" in done.stdout + done.stderr
        assert not list(tmp_path.glob("*.whl"))

    def test_skip_compiles_nothing(self, tree: Path, tmp_path: Path) -> None:
        done = build(tree, tmp_path, CALLSTATS_BUILD_EXT="skip")
        assert done.returncode == 0, done.stdout + done.stderr
        assert not re.search("cythoniz|PURE", done.stdout + done.stderr, re.IGNORECASE)
        assert is_pure(only_wheel(tmp_path))
        assert backend_of(unpack(only_wheel(tmp_path), tmp_path / "installed")) == "python"  # and nothing warns
        assert build(tree, tmp_path, CC="/bin/false").returncode == 0
        assert backend_of(unpack(only_wheel(tmp_path), tmp_path / "later")).startswith("RuntimeWarning")

    @pytest.mark.parametrize("word", ["", "0", "Auto"])
    def test_any_other_word_is_an_error(self, tree: Path, word: str) -> None:
        done = run("setup.py", "--version", cwd=tree, CALLSTATS_BUILD_EXT=word)
        assert done.returncode != 0
        assert f"CALLSTATS_BUILD_EXT must be one of auto, require, skip, got {word!r}" in done.stderr

    def test_any_other_word_of_the_debug_switch_is_an_error(self, tree: Path) -> None:
        done = run("setup.py", "--version", cwd=tree, CALLSTATS_BUILD_DEBUG="1")
        assert done.returncode != 0
        assert "CALLSTATS_BUILD_DEBUG must be one of off, on, fuzz, got '1'" in done.stderr

    @compiles
    def test_one_kernel_that_fails_leaves_none(self, small_kernels: Path, tmp_path: Path) -> None:
        """All or nothing: half a set of kernels would be slow in silence, or break at the first call."""
        compiler = tmp_path / "cc"
        compiler.write_text('#!/bin/sh\ncase "$*" in *second_cy*) exit 1 ;; esac\nexec cc "$@"\n')
        compiler.chmod(0o755)
        done = build(small_kernels, tmp_path, CC=str(compiler))
        assert done.returncode == 0, done.stdout + done.stderr
        assert list(small_kernels.glob("build/temp*/**/first_cy.o")), "the first kernel was to compile"
        assert is_pure(only_wheel(tmp_path))
        assert build(small_kernels, tmp_path, CC=str(compiler), CALLSTATS_BUILD_EXT="require").returncode != 0

    @pytest.mark.parametrize("how", [{"CALLSTATS_BUILD_EXT": "skip"}, {"CC": "/bin/false"}], ids=["skip", "fallback"])
    def test_a_pure_build_in_place_removes_old_kernels(self, tree: Path, how: dict[str, str]) -> None:
        """An editable install that turns pure must not go on with the binary of an earlier build."""
        old = tree / f"src/callstats/kernels/decimate_cy{SUFFIX}"
        old.write_bytes(b"old")
        skipped = old.with_name("skipped")
        skipped.touch()
        done = run("setup.py", "build_ext", "--inplace", cwd=tree, **how)
        assert done.returncode == 0, done.stdout + done.stderr
        assert not old.exists() and skipped.exists() == ("CALLSTATS_BUILD_EXT" in how)


def inside(wheel: Path) -> set[str]:
    """The files of a wheel, but for its metadata."""
    return {name for name in names(wheel) if not name.endswith("/") and ".dist-info/" not in name}


def what_belongs_inside() -> set[str]:
    """Every module and stub, every kernel compiled, and the few files of data that they read: no source of a kernel."""
    package = ROOT / "src" / "callstats"
    kept = [path for suffix in ("py", "pyi", "typed") for path in package.rglob(f"*.{suffix}")]
    kept += [package / "schema.json", *package.glob("demo/*.jsonl"), *package.glob("plot/html/page.*")]
    kernels = {f"callstats/kernels/{source.stem}{SUFFIX}" for source in package.glob("kernels/*_cy.pyx")}
    return {path.relative_to(package.parent).as_posix() for path in kept} | kernels


class TestContents:
    @compiles
    def test_the_wheel_has_every_kernel_and_no_source_of_one(self, compiled: Path) -> None:
        kernels = {f"callstats/kernels/{source.stem}{SUFFIX}" for source in ROOT.glob("src/callstats/kernels/*_cy.pyx")}
        assert kernels
        assert kernels <= set(names(compiled))
        assert not is_pure(compiled)
        assert inside(compiled) == what_belongs_inside()

    @compiles
    def test_the_wheel_tells_nothing_of_where_it_was_built(self, compiled: Path) -> None:
        """The build ran below this folder, temporary files and all."""
        place = str(compiled.parent.parent).encode()
        wheel = zipfile.ZipFile(compiled)
        assert [name for name in wheel.namelist() if place in wheel.read(name)] == []

    @compiles
    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="auditwheel is Linux's")
    def test_a_wheel_repaired_by_auditwheel(self, compiled: Path, tmp_path: Path) -> None:
        """As it is published: it needs nothing but an old libc, holds the same files, and runs."""
        tools = Path(sys.executable).parent
        done = run("-m", "auditwheel", "repair", "-w", tmp_path, compiled, cwd=tmp_path, PATH=f"{tools}:{os.environ['PATH']}")
        assert done.returncode == 0, done.stdout + done.stderr
        repaired = only_wheel(tmp_path)
        assert re.search(r"-manylinux\S*_(x86_64|aarch64)\.whl$", repaired.name)
        assert inside(repaired) == what_belongs_inside()
        assert backend_of(unpack(repaired, tmp_path / "installed"), CALLSTATS_BACKEND="cython") == "cython"

    def test_the_sdist_has_what_a_build_and_a_test_need(self, sdist: Path) -> None:
        with tarfile.open(sdist) as archive:
            held = {name.partition("/")[2] for name in archive.getnames()}
        sources = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("src/callstats/kernels/*.p[yx]?")]
        assert sources
        wanted = [
            *sources,
            "pyproject.toml",
            "setup.py",
            "LICENSE",
            "README.md",
            "tests/processes/test_build.py",
            "tests/data/wire.jsonl",
        ]
        assert [name for name in wanted if name not in held] == []
        assert [name for name in held if name.endswith((".c", ".so", ".pyd", ".pyc"))] == []

    @compiles
    def test_the_wheel_of_the_sdist_passes_the_vectors(self, sdist: Path, compiled: Path, tmp_path: Path) -> None:
        """In another directory, with no tree to fall back on; `make test-wheel` runs all the tests so."""
        run("-m", "tarfile", "--extract", sdist, tmp_path, cwd=tmp_path)
        (away,) = tmp_path.iterdir()
        shutil.rmtree(away / "src")
        installed = unpack(compiled, tmp_path / "installed")
        assert backend_of(installed, CALLSTATS_BACKEND="cython") == "cython"
        options = ["-q", "-p", "no:cacheprovider", "tests/kernels/test_vectors.py"]
        done = run("-m", "pytest", *options, cwd=away, PYTHONPATH=str(installed), CALLSTATS_BUILD_EXT="require")
        assert done.returncode == 0, done.stdout + done.stderr

    def test_the_extra_for_tests_holds_the_build_requirements(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        assert set(project["build-system"]["requires"]) <= set(project["project"]["optional-dependencies"]["test"])

    def test_kernels_leave_the_checks_of_indices_to_the_build(self) -> None:
        """A directive in a kernel's file would win over the debug build's, which then checks nothing."""
        directive = re.compile(r"boundscheck|initializedcheck|wraparound")
        assert [path.name for path in ROOT.glob("src/callstats/kernels/*.px?") if directive.search(path.read_text())] == []


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_builds_anew_what_has_changed() -> None:
    """Every source of a kernel is among what `make` looks at."""
    done = subprocess.run(
        ["make", "--silent", "--eval", "show: ; @echo $(SOURCES)", "show"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    sources = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("src/callstats/kernels/*.p*") if path.suffix in SOURCES}
    assert len(sources) >= 15
    assert sources | {"setup.py", "pyproject.toml"} <= set(done.stdout.split())


SOURCES = (".pyx", ".pxd", ".pyi")


class TestImport:
    """A missing extension is never silently slow."""

    def test_a_missing_binary(self, pure: Path) -> None:
        assert backend_of(pure) == backend_of(pure, CALLSTATS_BACKEND="python") == "python"  # it was built so on purpose
        (pure / "callstats/kernels/skipped").unlink()
        assert "since this build has no compiled ones; build them with a compiler and" in backend_of(pure)
        assert backend_of(pure, CALLSTATS_BACKEND="python") == "python"
        assert backend_of(pure, CALLSTATS_BACKEND="cython").startswith("ImportError: CALLSTATS_BACKEND=cython")

    def test_a_broken_binary(self, pure: Path) -> None:
        for stub in (pure / "callstats/kernels").glob("*_cy.pyi"):
            stub.with_name(f"{stub.stem}{SUFFIX}").write_bytes(b"no binary at all")
        warned = run("-c", "import callstats; print(callstats.backend)", cwd=pure, PYTHONPATH=str(pure))
        assert warned.stdout == "python\n"
        assert re.search(rf"RuntimeWarning: .*_cy{re.escape(SUFFIX)}", warned.stderr), warned.stderr
        assert backend_of(pure, CALLSTATS_BACKEND="python") == "python"
        assert f"_cy{SUFFIX}" in backend_of(pure, CALLSTATS_BACKEND="cython")

    def test_any_other_word_is_an_error(self, pure: Path) -> None:
        expected = "ImportError: CALLSTATS_BACKEND must be one of auto, cython, python, got 'c'"
        assert backend_of(pure, CALLSTATS_BACKEND="c") == expected
