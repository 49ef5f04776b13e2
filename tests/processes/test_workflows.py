"""The workflows: of GitHub's own schema, and with no logic that `make` has not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
VERBS = set(re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split())

if not WORKFLOWS:
    pytest.skip("a wheel's tests have no workflows beside them", allow_module_level=True)


def parsed(path: Path) -> dict[str, Any]:
    """The workflow as data."""
    yaml = pytest.importorskip("ruamel.yaml")
    return yaml.YAML(typ="safe").load(path.read_text())


def steps(path: Path) -> list[dict[str, Any]]:
    """All steps of all jobs."""
    return [step for job in parsed(path)["jobs"].values() for step in job["steps"]]


def schema(name: str, *files: Path) -> subprocess.CompletedProcess[str]:
    """What check-jsonschema says."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", name, *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_all_three_are_there() -> None:
    """Tests, benchmarks and wheels."""
    assert {path.stem for path in WORKFLOWS} == {"ci", "benchmarks", "wheels"}


def test_schema(tmp_path: Path) -> None:
    """GitHub would take them, and would not take one with a word that it doesn't know."""
    done = schema("vendor.github-workflows", *WORKFLOWS)
    assert done.returncode == 0, done.stdout
    broken = tmp_path / "broken.yml"
    broken.write_text(WORKFLOWS[0].read_text().replace("runs-on:", "runs-at:"))
    assert schema("vendor.github-workflows", broken).returncode == 1
    assert schema("vendor.dependabot", ROOT / ".github" / "dependabot.yml").returncode == 0
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))
    assert len(forms) == 2
    assert schema("vendor.github-issue-forms", *forms).returncode == 0


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_steps_call_verbs(path: Path) -> None:
    """Each step calls `make` verbs that exist, or the one script, or is the gate."""
    runs = [step["run"] for step in steps(path) if "run" in step]
    assert runs
    for run in runs:
        if run in ("exit 1", ".ci/run"):
            continue
        command, *words = re.sub(r"\$\{\{.*?\}\}", "", run).split('"')[0].split()
        assert command == "make"
        assert words
        assert {word for word in words if "=" not in word} <= VERBS


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned(path: Path) -> None:
    """An action's version is a number: no branch, which may change under us."""
    for step in steps(path):
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+(\.\d+\.\d+)?", step["uses"])


@pytest.mark.parametrize("name", ["ci", "wheels"])
def test_the_gate_waits_for_all(name: str) -> None:
    """And runs whatever becomes of them: a gate that is skipped counts as passed."""
    jobs = parsed(ROOT / ".github" / "workflows" / f"{name}.yml")["jobs"]
    before = jobs.keys() - {"gate", "publish"}
    assert set(jobs["gate"]["needs"]) == before
    assert jobs["gate"]["if"] == "always()"
    (step,) = jobs["gate"]["steps"]
    assert all(f"contains(needs.*.result, '{result}')" in step["if"] for result in ("failure", "cancelled", "skipped"))


def test_only_the_gate_leads_to_publishing() -> None:
    """On a tag, with a token that PyPI gives this workflow and nobody else."""
    publish = parsed(ROOT / ".github" / "workflows" / "wheels.yml")["jobs"]["publish"]
    assert publish["needs"] == ["gate"]
    assert publish["if"] == "startsWith(github.ref, 'refs/tags/v')"
    assert publish["permissions"] == {"id-token": "write"}


def test_files_that_workflows_and_wheels_name() -> None:
    """The constraints of each matrix entry, and the tests of each wheel, exist."""
    versions = parsed(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    named = {*versions["versions"], *(entry["versions"] for entry in versions["include"])}
    assert named == {"newest", "oldest"}
    assert all((ROOT / "tests" / f"{name}.txt").exists() for name in named)
    tests = re.findall(r"\{project\}/(\S+)", (ROOT / "pyproject.toml").read_text())
    assert [test.strip('"') for test in tests] == ["pyproject.toml", "tests/kernels"]
    assert all((ROOT / test.strip('"')).exists() for test in tests)
