"""The files in deploy/: systemd and Kubernetes take them, and what they run does its work."""

from __future__ import annotations

import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from callstats import StatSeries
from callstats.cli import main
from callstats.db import connect

DEPLOY = Path(__file__).parents[2] / "deploy"
NIGHTLY = DEPLOY.parent / "docs" / "nightly.md"
SERVICE = DEPLOY / "systemd" / "callstats-reduce.service"
TIMER = DEPLOY / "systemd" / "callstats-reduce.timer"
CRON_JOB = DEPLOY / "kubernetes" / "cronjob.yaml"

if not DEPLOY.exists():
    pytest.skip("a wheel's tests have no such files beside them", allow_module_level=True)


def command_of(unit: str) -> list[str]:
    """Return the command that a service runs."""
    [line] = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    return shlex.split(line.removeprefix("ExecStart="))


def cron_job() -> dict[str, Any]:
    """Return the CronJob as data."""
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    return yaml.safe_load(CRON_JOB.read_text())


def container() -> dict[str, Any]:
    """Return the CronJob's only container."""
    [only] = cron_job()["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    return only


def verify(folder: Path, service: str, timer: str, more: str = "") -> subprocess.CompletedProcess[str]:
    """Verify both units in a folder, the service with further lines."""
    (folder / f"{SERVICE.name}.d").mkdir(exist_ok=True)
    (folder / f"{SERVICE.name}.d" / "override.conf").write_text(more)
    paths = [folder / SERVICE.name, folder / TIMER.name]
    for path, text in zip(paths, (service, timer), strict=True):
        path.write_text(text)
    return subprocess.run(["systemd-analyze", "verify", *map(str, paths)], capture_output=True, text=True, check=False)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze: apt-get install systemd")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """Systemd finds no fault in them once the command is installed, and finds one in a misspelt setting."""
    service, timer = SERVICE.read_text(), TIMER.read_text()
    installed = service.replace("/usr/local/bin/callstats", sys.executable)
    done = verify(tmp_path, installed, timer)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    [sqlite] = re.findall(r"^```ini\n(.*?)^```$", NIGHTLY.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    done = verify(tmp_path, installed, timer, sqlite)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert verify(tmp_path, installed, timer, sqlite.replace("DynamicUser=no", "DynamicUser=none")).stderr
    for broken in ((installed.replace("Type=oneshot", "Type=once"), timer), (installed, timer.replace("03:00", "27:00"))):
        assert verify(tmp_path, *broken).stderr


def test_the_page_installs_what_they_run() -> None:
    """The program is put where the service looks for it, with the driver of the database in the example."""
    page = NIGHTLY.read_text(encoding="utf-8")
    program = command_of(SERVICE.read_text())[0]
    assert f"ln -s /opt/callstats/bin/callstats {program}\n" in page
    assert "pip install '.[cli,postgres]'" in page and "CALLSTATS_URL=postgresql://" in page


def test_the_api_takes_the_job() -> None:
    """The CronJob is valid by the schemas of old and new Kubernetes, and an unknown field would not be."""
    validator = pytest.importorskip("kubernetes_validate", reason="needs the package kubernetes-validate")
    job = cron_job()
    for version in ("1.29", "1.32", validator.latest_version()):
        validator.validate(job, version, strict=True)
    job["spec"]["jobTemplate"]["spec"]["backofLimit"] = 3
    with pytest.raises(validator.ValidationError):
        validator.validate(job, "1.32", strict=True)


def test_they_run_the_same_command() -> None:
    """The timer's service and the CronJob do the same; its secret is the command's default database."""
    assert command_of(SERVICE.read_text())[1:] == container()["args"]
    assert [each["name"] for each in container()["env"]] == ["CALLSTATS_URL"]
    assert cron_job()["spec"]["schedule"] == "0 3 * * *"
    assert "OnCalendar=*-*-* 03:00\n" in TIMER.read_text()


def test_what_they_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The command reduces older calls alone, each to the rows of its age."""
    database = str(tmp_path / "calls.db")
    blob = StatSeries(range(0, 240 * 10**9, 10**9), {"mem_usage": [4096] * 240}).to_json().decode()
    ages = {"young": "-1 day", "week": "-8 days", "month": "-31 days"}
    with connect(database) as table:
        table.create()
        table.add([{"id": key, "fn_id": "f", "stats": blob} for key in ages])
    with sqlite3.connect(database) as connection:
        for key, age in ages.items():
            moment = "strftime('%Y-%m-%dT%H:%M:%SZ', 'now', ?)"
            connection.execute(f"UPDATE calls SET created_at = {moment} WHERE id = ?", (age, key))
    connection.close()
    monkeypatch.setenv("CALLSTATS_URL", database)
    with pytest.raises(SystemExit) as ended:
        main(command_of(SERVICE.read_text())[1:])
    assert ended.value.code == 0, capsys.readouterr()
    with connect(database) as table:
        assert {key: len(table.get(key).series) for key in ages} == {"young": 240, "week": 60, "month": 12}
