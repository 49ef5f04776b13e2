"""Runs of the job in processes of their own that can be killed: forked from one that has all imports behind it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from types import TracebackType
from typing import Any, Self

PROGRAM = """
import gc, json, os, sys, time, traceback
from datetime import timedelta
import psycopg, pymysql, sqlalchemy.dialects.mysql, sqlalchemy.dialects.postgresql, sqlalchemy.dialects.sqlite
from callstats import Rule
from callstats.db import connect
import callstats.db.dialects.mysql, callstats.db.dialects.postgres, callstats.db.dialects.sqlite
import callstats.db.jobs.reduce, callstats.db.jobs.worker
gc.freeze()
print("ready", flush=True)
while line := sys.stdin.readline():
    jobs = json.loads(line)
    children = []
    for job in jobs:
        child = os.fork()
        if child == 0:
            try:
                tiers = [(timedelta(days=days), rows) for days, rows in job.pop("tiers", [])]
                rule = Rule(None if tiers else job.pop("rows"), how={"mem_usage": ("mean", "max")})
                lingers, told = job.pop("lingers", 0), []
                def tell(report, done=False):
                    if lingers and not told and (report.changed or done):
                        os.write(1, b"begun\\n")
                        told.append(report)
                report = connect(job.pop("url")).reduce(rule, tiers=tiers or None, progress=tell, **job)
                tell(report, done=True)
                time.sleep(lingers)
                os._exit(0 if report.stopped is None else 3)
            except BaseException:
                traceback.print_exc()
                os._exit(9)
        children.append(child)
    print(json.dumps(children), flush=True)
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]), flush=True)
"""


class Runs:
    """A process that forks a process for each run."""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert self.read() == "ready\n"
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def read(self) -> str:
        """A line that it says."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def wait_for_batch(self) -> None:
        """Wait until a run that lingers has committed a change, or is done."""
        assert self.read() == "begun\n"

    def start(self, *jobs: dict[str, Any]) -> list[int]:
        """Begin runs at once, and give their processes."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(jobs) + "\n")
        self.process.stdin.flush()
        return list(json.loads(self.read()))

    def ends(self) -> list[int]:
        """How they ended."""
        line = self.read()
        return list(json.loads(self.read() if line == "begun\n" else line))

    @staticmethod
    def kill(process: int) -> None:
        """Kill one, at once and for good."""
        os.kill(process, signal.SIGKILL)
