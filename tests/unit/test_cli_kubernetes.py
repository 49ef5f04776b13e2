"""``callstats summary --patch kubernetes``: only sound advice, and valid by Kubernetes' own schemas."""

from __future__ import annotations

import copy
from contextlib import closing
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner

from callstats import StatSeries, decimate
from callstats.cli.app import cli
from support.database import connect
from support.zoo import SECOND

MIB = 2**20
FN = "CREATE TABLE calls (id INTEGER PRIMARY KEY, fn_id, status, created_at, started_at, completed_at, stats)"


def blob(peak: int, n: int = 60, **more: Any) -> str:
    metrics = {"mem_usage": [peak // 2] * (n - 1) + [peak], "mem_limit": [256 * MIB] * n, "cpu_total": [25] * n}
    return StatSeries([i * SECOND for i in range(n)], {**metrics, **more}).to_db()


def merged(original: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Apply a strategic merge patch: maps merge, and lists of containers merge by name."""
    result = copy.deepcopy(original)
    for key, value in patch.items():
        if isinstance(value, dict):
            result[key] = merged(result.get(key, {}), value)
        elif key == "containers":
            names = {one["name"]: one for one in result[key]}
            result[key] = [*(merged(names.pop(one["name"], {}), one) for one in value), *names.values()]
        else:
            result[key] = value
    return result


def deployment(name: str) -> dict[str, Any]:
    labels = {"app": name}
    containers = [{"name": name, "image": "x:1", "resources": {"requests": {"cpu": "2"}}}, {"name": "sidecar", "image": "y:1"}]
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


@pytest.fixture
def output(tmp_path: Path) -> str:
    groups: dict[str | int, list[str]] = {
        7: [blob(MIB)] * 80,
        "7": [blob(MIB)] * 80,
        "resize": [blob(100 * MIB + i) for i in range(99)] + [""],
        "no": [blob(100 * MIB)] * 80,
        "Not a label: 'x'\n- y": [blob(MIB)] * 80,
        "leaks": [blob((50 + i) * MIB) for i in range(100)],
        "few": [blob(MIB)] * 58,
        "unseen": [blob(MIB)] * 80 + [""] * 81,
        "killed": [blob(100 * MIB)] * 80,
        "no-status": [blob(100 * MIB)] * 80,
        "inexact": [decimate(StatSeries.from_db(blob(99 * MIB)), 7, how="mean").to_db()] * 80,
    }
    path = tmp_path / "calls.db"
    with closing(connect(path)) as db:
        db.execute(FN)
        db.execute("BEGIN")
        for name, stats in groups.items():
            at = "2026-10-26T12:00:{:02}.{:03}Z"
            rows = [
                (
                    name,
                    None if name == "no-status" else "killed" if name == "killed" and i < 4 else "success",
                    at.format(i // 100, i),
                    at.format(0, 0),
                    at.format(50, 0),
                    one,
                )
                for i, one in enumerate(stats)
            ]
            db.executemany(
                "INSERT INTO calls (fn_id, status, created_at, started_at, completed_at, stats) VALUES (?, ?, ?, ?, ?, ?)", rows
            )
        db.execute("COMMIT")
    args = ["summary", str(path), "--patch", "kubernetes", "--rightsize", "5%", "--sort", "name"]
    result = CliRunner(env={"CALLSTATS_URL": None}).invoke(cli, args)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def test_one_document_for_each_sound_name(output: str) -> None:
    """Requests and limits of the right size; a name that YAML would take for a word stays a name."""
    patches = [one for one in yaml.safe_load_all(output) if one]
    assert [patch["metadata"]["name"] for patch in patches] == ["no", "resize"]
    assert "# right size: 128 MiB: 0 of 99 calls would have exceeded it, at most 4.7" in output
    assert "99 of 100 calls sampled, 1 without known memory left out, 0 killed; peaks sampled each second; a shorter" in output
    for patch in patches:
        [container] = patch["spec"]["template"]["spec"]["containers"]
        assert container["name"] == patch["metadata"]["name"]
        assert container["resources"] == {"requests": {"memory": "128Mi", "cpu": "250m"}, "limits": {"memory": "128Mi"}}


def test_kubernetes_takes_it(output: str) -> None:
    """Each patch, merged into a Deployment, is valid; the sidecar stays as it was."""
    for patch in filter(None, yaml.safe_load_all(output)):
        original = deployment(patch["metadata"]["name"])
        found = merged(original, patch)
        kubernetes_validate.validate(found, kubernetes_validate.latest_version(), strict=True)
        assert found["spec"]["template"]["spec"]["containers"][1] == original["spec"]["template"]["spec"]["containers"][1]
        assert found["spec"]["selector"] == original["spec"]["selector"]
        broken = merged(found, {"spec": {"template": {"spec": {"containers": [{"name": "sidecar", "resource": {}}]}}}})
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(broken, kubernetes_validate.latest_version(), strict=True)


def test_unsound_advice_is_a_comment(output: str) -> None:
    """Each name without a patch says why."""
    comments = [line for line in output.splitlines() if ": no patch: " in line]
    assert comments == [
        *["# 7: no patch: another name reads the same"] * 2,
        "# Not a label: 'x'\\n- y: no patch: a container's name must be a DNS label",
        "# few: no patch: not enough calls whose memory is known: 58 of the 59 that a risk of 5 % needs",
        "# inexact: no patch: its peaks are not exact, since reductions did not keep them",
        "# killed: no patch: 4 calls of 80 ran out of memory, and what such calls need is not known",
        "# leaks: no patch: its memory grows from call to call, so no size lasts",
        "# no-status: no patch: it is not known which calls ran out of memory, since they have no status",
        "# unseen: no patch: memory is known in 80 of 161 calls only",
    ]
