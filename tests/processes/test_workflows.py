"""The workflows: of GitHub's own schema, and with no logic that `make` has not."""

from __future__ import annotations

import re
import shutil
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


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    """The jobs by name."""
    return parsed(path)["jobs"]


def steps(path: Path) -> list[dict[str, Any]]:
    """All steps of all jobs; a job that calls another workflow has none."""
    return [step for job in jobs(path).values() for step in job.get("steps", [])]


def schema(name: str, *files: Path) -> subprocess.CompletedProcess[str]:
    """What check-jsonschema says."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", name, *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_all_are_there() -> None:
    """Tests, benchmarks, wheels, what runs at night, and releases."""
    assert {path.stem for path in WORKFLOWS} == {"ci", "benchmarks", "wheels", "nightly", "release"}


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
        if run in ("exit 1", ".ci/run") or re.fullmatch(r"pipx run --spec cibuildwheel==[\d.]+ cibuildwheel .*", run):
            continue
        command, *words = re.sub(r"\$\{\{.*?\}\}", "", run).split('"')[0].split()
        assert command == "make"
        assert words
        assert {word for word in words if "=" not in word} <= VERBS


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_nothing_is_put_into_a_command(path: Path) -> None:
    """What GitHub knows comes to a command through its environment, where it is a word and no code."""
    for step in steps(path):
        assert "${{" not in step.get("run", "")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned(path: Path) -> None:
    """An action is named by the hash of its commit, which nobody can move, with the tag beside it; one hash for each action."""
    used = re.findall(r"uses: ([\w./-]+)@(.*)", path.read_text())
    assert len(used) == sum("uses" in step for step in steps(path))
    for _, version in used:
        assert re.fullmatch(r"[0-9a-f]{40} # v\d+\.\d+\.\d+", version)
    everywhere = {pin for path in WORKFLOWS for pin in re.findall(r"uses: ([\w-]+/[\w-]+)[\w/-]*@(.*)", path.read_text())}
    assert len(everywhere) == len({name for name, _ in everywhere})


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_least_rights(path: Path) -> None:
    """A workflow reads the repository; two jobs may do more. No checkout leaves a token behind, and no job hangs."""
    assert parsed(path)["permissions"] == {"contents": "read"}
    more = {name: job["permissions"] for name, job in jobs(path).items() if "permissions" in job}
    assert more == {
        "release": {"publish": {"id-token": "write", "attestations": "write"}},
        "benchmarks": {"keep": {"contents": "write"}},
    }.get(path.stem, {})
    for step in steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
    for job in jobs(path).values():
        assert "uses" in job or 1 <= job["timeout-minutes"] <= 180


@pytest.mark.parametrize("name", ["ci", "wheels"])
def test_the_gate_waits_for_all(name: str) -> None:
    """And runs whatever becomes of them: a gate that is skipped counts as passed."""
    jobs = parsed(ROOT / ".github" / "workflows" / f"{name}.yml")["jobs"]
    before = jobs.keys() - {"gate", "publish"}
    assert set(jobs["gate"]["needs"]) == before
    assert jobs["gate"]["if"] == "always()"
    (step,) = jobs["gate"]["steps"]
    assert all(f"contains(needs.*.result, '{result}')" in step["if"] for result in ("failure", "cancelled", "skipped"))


def test_only_what_passed_is_published() -> None:
    """On a tag that was checked, after all of CI and all wheels of that very commit, with a token of this workflow alone."""
    workflow = parsed(ROOT / ".github" / "workflows" / "release.yml")
    assert workflow["on"] == {"push": {"tags": ["v*"]}}
    publish = workflow["jobs"]["publish"]
    assert set(publish["needs"]) == workflow["jobs"].keys() - {"publish"}
    assert "if" not in publish  # a job runs only where all that it needs have passed
    assert publish["environment"] == "pypi"
    called = {name: job["uses"] for name, job in workflow["jobs"].items() if "uses" in job}
    assert called == {name: f"./.github/workflows/{name}.yml" for name in ("ci", "wheels")}
    for name in called:
        assert "workflow_call" in parsed(ROOT / ".github" / "workflows" / f"{name}.yml")["on"]
    last = publish["steps"][-1]
    assert last["uses"].startswith("pypa/gh-action-pypi-publish@")
    assert last["with"] == {"attestations": True}
    others = [path for path in WORKFLOWS if path.stem != "release"]
    assert not [path for path in others if "pypi-publish" in path.read_text()]


def release_check(tag: str, cwd: Path) -> tuple[int, str]:
    """What `make release-check` says of a tag."""
    done = subprocess.run(["make", "release-check", f"TAG={tag}"], cwd=cwd, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr.splitlines()[0] if done.returncode else ""


def test_release_check(tmp_path: Path) -> None:
    """A tag that is not the version, a changelog without it, and a commit that is not of main are refused."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "src/callstats").mkdir(parents=True)
    (tmp_path / "src/callstats/_version.py").write_text('__version__ = "1.2.3"\n')

    def git(*words: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words], cwd=tmp_path, check=True, capture_output=True
        )

    git("init", "--initial-branch=main")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased: 1.2.3\n")
    wanted = "TAG must be v1.2.3, as in src/callstats/_version.py, got "
    for tag in ("1.2.3", "v1.2.4", ""):
        assert release_check(tag, tmp_path) == (2, wanted + tag)
    assert release_check("v1.2.3", tmp_path) == (2, "CHANGELOG.md must have a heading '## 1.2.3, YYYY-MM-DD'")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3, 2030-01-31\n")
    git("add", "--all")
    git("commit", "-m", "release")
    git("update-ref", "refs/remotes/origin/main", "HEAD")
    assert release_check("v1.2.3", tmp_path) == (0, "")
    git("commit", "--allow-empty", "-m", "beside main")
    assert release_check("v1.2.3", tmp_path)[1].startswith("HEAD must be a commit of main, got ")


def test_history_of_benchmarks(tmp_path: Path) -> None:
    """A branch that is not there yet is begun, then each commit adds its line; a remote that can't be reached is an error."""
    remote, tree = tmp_path / "remote.git", tmp_path / "tree"
    subprocess.run(["git", "init", "--quiet", "--bare", remote], check=True)
    subprocess.run(["git", "init", "--quiet", tree], check=True)
    shutil.copy(ROOT / "Makefile", tree)
    commit = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet", "--allow-empty", "-m", "first"]
    subprocess.run(commit, cwd=tree, check=True)
    (tree / "build/compare").mkdir(parents=True)

    def make(*words: str) -> int:
        return subprocess.run(["make", "--silent", *words], cwd=tree, check=False, capture_output=True).returncode

    for turn in range(3):
        (tree / "build/compare/line.json").write_text(f'{{"commit": "{turn}"}}\n')
        assert make("bench-keep", f"REMOTE={remote}") == 0
    assert make("bench-history", f"REMOTE={remote}") == 0
    assert (tree / "build/history/history.jsonl").read_text() == "".join(f'{{"commit": "{turn}"}}\n' for turn in range(3))
    assert make("bench-history", f"REMOTE={tmp_path / 'nowhere'}") > 0


def test_files_that_workflows_and_wheels_name() -> None:
    """The constraints of each matrix entry, and the tests of each wheel, exist."""
    versions = parsed(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    named = {*versions["versions"], *(entry["versions"] for entry in versions["include"])}
    assert named == {"newest", "oldest"}
    assert all((ROOT / "tests" / f"{name}.txt").exists() for name in named)
    tests = re.findall(r"\{project\}/(\S+)", (ROOT / "pyproject.toml").read_text())
    assert [test.strip('"') for test in tests] == ["pyproject.toml", "tests/kernels"]
    assert all((ROOT / test.strip('"')).exists() for test in tests)
