"""The recipe in deploy/container: built by a real engine without a network, and run."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from callstats import __version__
from support.engine import Engine, image_tar

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "deploy" / "container" / "Dockerfile"
BASE, IMAGE = "callstats-test:python", "callstats-test:recipe"
EXTRAS = ("cli", "postgres", "mysql")
_UNUSED = {
    *("site-packages", "dist-packages", "test", "tests", "__pycache__"),
    *("ensurepip", "idlelib", "lib2to3", "pydoc_data", "tkinter"),
}
"""Folders without which Python, pip and the packages do their work."""

if not RECIPE.exists():
    pytest.skip("a wheel's tests have no recipe beside them", allow_module_level=True)


def requirements(of: Distribution, extras: set[str], found: dict[str, Distribution]) -> None:
    """Add the installed packages that a package needs with these extras."""
    for text in of.requires or []:
        needed = Requirement(text)
        wanted = needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *extras))
        if wanted and needed.name.lower() not in (each.lower() for each in found):
            try:
                other = distribution(needed.name)
            except PackageNotFoundError:
                continue
            if needed.name != "callstats":
                found[needed.name] = other
            requirements(other, set(needed.extras), found)


def files_of_python() -> Iterator[tuple[Path, str]]:
    """Yield the interpreter's files, pip's and those of the packages that callstats needs, each with its path in the image."""
    library = Path(sysconfig.get_path("stdlib"))
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    interpreter = Path(sys.executable).resolve()
    yield interpreter, f"usr/local/bin/{version}"
    for folder, folders, names in os.walk(library):
        folders[:] = [name for name in folders if name not in _UNUSED and not name.startswith("config-")]
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not name.startswith(("_ctypes_test", "_test", "_tkinter")):
                yield path, f"usr/local/lib/{version}/{path.relative_to(library)}"
    packages: dict[str, Distribution] = {"pip": distribution("pip")}
    requirements(distribution("callstats"), set(EXTRAS), packages)
    for package in packages.values():
        for file in package.files or []:
            source = Path(str(package.locate_file(file)))
            if _UNUSED.isdisjoint(file.parts) and ".." not in file.parts and source.is_file() and source.suffix != ".pyc":
                yield source, f"usr/local/lib/{version}/site-packages/{file}"


def shared_libraries(paths: list[Path]) -> set[Path]:
    """Return what the dynamic linker loads for programs and libraries."""
    listed = subprocess.run(["ldd", *map(str, paths)], capture_output=True, text=True, check=False).stdout
    return {Path(os.path.normpath(match)) for match in re.findall(r"(?:=> |^\t)(/\S+) \(0x", listed, re.MULTILINE)}


def base_tar() -> bytes:
    """Return the root folder of an image like Python's own, with all that callstats needs, as there is no network."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    chosen = dict(files_of_python())
    binaries = [path for path in chosen if path.suffix == ".so" or ".so." in path.name or path == Path(sys.executable).resolve()]
    data = io.BytesIO(image_tar())
    with tarfile.open(fileobj=data, mode="a") as tar:
        for name in ("set", "rm"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for path, name in chosen.items():
            tar.add(str(path.resolve()), name)
        present = {path.resolve() for path in chosen}
        for path in shared_libraries(binaries):
            if path.resolve() not in present:
                tar.add(str(path.resolve()), str(path).lstrip("/"))
        for name in ("python", "python3"):
            link = tarfile.TarInfo(f"usr/local/bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, version
            tar.addfile(link)
    return data.getvalue()


@pytest.fixture(scope="module")
def built(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build the image from a wheel of this tree, over a base that was put together on this machine."""
    if not shutil.which("ldd") or not sys.platform.startswith("linux"):
        pytest.skip("needs ldd, to put the base image together")
    folder = tmp_path_factory.mktemp("dist")
    tree = tmp_path_factory.mktemp("tree") / "callstats"
    shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("*.so", "*.c", "__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder),
        ".",
    ]
    subprocess.run(command, cwd=tree, env={"PATH": "/usr/bin:/bin", "CALLSTATS_BUILD_EXT": "skip"}, check=True, timeout=300)
    path = "ENV PATH=/usr/local/bin:/bin CALLSTATS_BACKEND=python"  # the wheel has no other
    engine.docker("import", "--change", path, "-", BASE, data=base_tar())
    options = ["--quiet", "--network", "none", "--build-arg", f"BASE={BASE}", "--file", str(RECIPE), "--tag", IMAGE]
    engine.docker("build", *options, str(folder))
    return IMAGE


def run(engine: Engine, image: str, *args: str, read_only: bool = True) -> str:
    """Run the image's command as Kubernetes would: no network, no privileges, nothing to write to."""
    options = ["--rm", "--network", "none", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    return engine.docker("run", *options, *(["--read-only"] if read_only else []), image, *args)


def test_the_image_runs_the_command(engine: Engine, built: str) -> None:
    """Its entry point is the command, and it runs as nobody."""
    assert __version__ in run(engine, built, "--version")
    assert "--tier" in run(engine, built, "reduce", "--help")
    assert engine.docker("inspect", "--format", "{{.Config.User}} {{.Config.Entrypoint}}", built) == "65534:65534 [callstats]\n"


def test_the_image_reduces_a_table(engine: Engine, built: str, tmp_path: Path) -> None:
    """A table in a mounted folder is made, reduced and left as it should be; the drivers of the servers are there."""
    tmp_path.chmod(0o777)
    volume = ["run", "--rm", "--network", "none", "--volume", f"{tmp_path}:/data", "--env", "CALLSTATS_URL=/data/calls.db"]
    engine.docker(*volume, built, "init", "--example")
    assert "changed" in engine.docker(*volume, built, "reduce", "--tier", "7d=60", "--tier", "30d=12")
    check = "import psycopg, pymysql, importlib.metadata as m; print(m.version('callstats'))"
    assert engine.docker("run", "--rm", "--network", "none", "--entrypoint", "python", built, "-c", check).strip()
