"""Tests that every driver must pass. They need pytest and psutil, and a POSIX shell in ``image``.

For failures with values, call ``pytest.register_assert_rewrite("callstats.drivers.testing")`` before the import.
"""

from __future__ import annotations

import io
import os
import threading
from time import monotonic, sleep
from typing import Any

import psutil
import pytest

from callstats.drivers.base import Driver, RunResult, Status, Task
from callstats.errors import CallstatsError

_MIB = 2**20


class DriverConformance:
    """Tests of a driver. A subclass defines the fixture `driver`, and overrides these attributes where they differ."""

    image = ""
    """An image with a shell, for a driver of containers."""

    missing_image: str | None = None
    """The name of a missing image; None for a driver without images."""

    patience = 10.0
    """Max seconds for a task to end once it should."""

    @pytest.fixture
    def driver(self) -> Driver:
        """Return the driver to test, with the shortest interval."""
        raise NotImplementedError

    def leftovers(self) -> list[str]:
        """Return what tasks have left outside this process, such as containers."""
        return []

    def test_success(self, driver: Driver) -> None:
        result, output = self._shell(driver, "echo out; echo err >&2")
        assert (result.status, result.error) == (Status.SUCCESS, None)
        assert output == (b"out\n", b"err\n")

    @pytest.mark.parametrize(
        ("command", "code"),
        [
            (["sh", "-c", "exit 3"], 3),
            (["sh", "-c", "sh -c 'kill -TERM $$'; exit $?"], 128 + 15),
            (["no-such-command-here"], 127),
            (["/etc"], 126),
        ],
        ids=["code", "signal", "missing", "no program"],
    )
    def test_error_exit(self, driver: Driver, command: list[str], code: int) -> None:
        """A command that fails, or can't start, is a result with status error and a shell's exit code."""
        result = self._run(driver, Task(image=self.image, command=command))
        assert result.status is Status.ERROR
        assert result.error is not None
        assert result.error.exit_code == code

    def test_missing_image(self, driver: Driver) -> None:
        """An image that is missing and can't be pulled raises before anything runs."""
        if self.missing_image is None:
            pytest.skip("this driver has no images")
        with pytest.raises(CallstatsError):
            driver.prepare(Task(image=self.missing_image, command=["true"]))
        assert self.leftovers() == []

    @pytest.mark.parametrize(("its_own", "the_wait_s"), [(0.5, None), (50, 0.3), (0.3, 50)])
    def test_timeouts(self, driver: Driver, its_own: float, the_wait_s: float | None) -> None:
        """A task ends at the earlier of its own and the wait's timeout, with all that it started."""
        started = monotonic()
        with driver.prepare(self._task("sleep 60 & sleep 60", timeout=its_own)) as cookie:
            result = cookie.run().wait(the_wait_s)
        assert result.status is Status.TIMEOUT
        assert result.error is not None
        assert monotonic() - started < self.patience

    def test_cancel_from_another_thread(self, driver: Driver) -> None:
        cancel, started = threading.Event(), monotonic()
        timer = threading.Timer(0.3, cancel.set)
        timer.start()
        with driver.prepare(self._task("sleep 60")) as cookie:
            result = cookie.run().wait(cancel=cancel)
        timer.join()
        assert result.status is Status.CANCELLED
        assert monotonic() - started < self.patience

    def test_out_of_memory(self, driver: Driver) -> None:
        result, _ = self._shell(driver, "exec dd if=/dev/zero of=/dev/null bs=200M count=100000", memory=64 * _MIB, timeout=60)
        assert result.status is Status.KILLED
        assert result.error is not None

    def test_the_result_stays(self, driver: Driver) -> None:
        """A second wait returns the same result. Neither a timeout nor a cancel changes it."""
        cancel = threading.Event()
        cancel.set()
        with driver.prepare(self._task("exit 4")) as cookie:
            run = cookie.run()
            assert run.wait() == run.wait(0) == run.wait(cancel=cancel)

    def test_output_larger_than_any_pipe(self, driver: Driver) -> None:
        script = "i=0; while [ $i -lt 64 ]; do head -c 65536 /dev/zero; head -c 32768 /dev/zero >&2; i=$((i + 1)); done"
        result, (out, err) = self._shell(driver, script)
        assert result.status is Status.SUCCESS
        assert (len(out), len(err)) == (64 * 65_536, 64 * 32_768)

    def test_stdin(self, driver: Driver) -> None:
        """Input arrives whole, also when it exceeds a pipe. A command need not read it."""
        data = os.urandom(3 * _MIB)
        assert self._shell(driver, "cat", stdin=io.BytesIO(data))[1][0] == data
        assert self._shell(driver, "cat")[1][0] == b""
        assert self._shell(driver, "exit 0", stdin=io.BytesIO(data))[0].status is Status.SUCCESS

    def test_env(self, driver: Driver) -> None:
        """The task's variables add to those that make programs found."""
        result, (out, _) = self._shell(driver, 'echo "$A|$B"; ls / > /dev/null', env={"A": "1 = 2", "B": "grün"})
        assert result.status is Status.SUCCESS
        assert out.decode() == "1 = 2|grün\n"

    def test_work_dir(self, driver: Driver) -> None:
        assert self._shell(driver, "pwd", work_dir="/usr")[1][0] == b"/usr\n"

    def test_samples(self, driver: Driver) -> None:
        """Samples are whole numbers at non-decreasing times. None comes after the end, and a closing one at the end."""
        samples: list[tuple[int, dict[str, int]]] = []
        task = self._task("sleep 3.5", write_stat=lambda time, metrics: samples.append((time, metrics)))
        with driver.prepare(task) as cookie:
            cookie.run().wait()
            count = len(samples)
        sleep(1.5)
        assert len(samples) == count >= 2
        times = [time for time, _ in samples]
        assert times == sorted(times)
        for time, metrics in samples:
            assert type(time) is int
            assert all(type(value) is int and 0 <= value < 2**64 for value in metrics.values())
            assert metrics.get("mem_usage", 1) > 0
        assert "mem_usage" in samples[0][1]

    def test_the_closing_sample(self, driver: Driver) -> None:
        """A call that ran has a sample, however short it was. The last one has the processor time since the start."""
        samples: list[dict[str, int]] = []
        for script in ("exit 0", "exit 3", "sleep 1.2"):
            samples.clear()
            self._shell(driver, script, write_stat=lambda _, metrics: samples.append(metrics))
            assert samples
        assert samples[-1]["cpu_time@last"] > 0
        assert max(metrics.get("mem_usage", 0) for metrics in samples) > 0

    def test_an_observer_that_fails(self, driver: Driver) -> None:
        """An error of ``on_stat`` is not one of the task, and it sees each sample."""
        seen: list[int] = []
        written: list[int] = []

        def fail(time: int, metrics: dict[str, int]) -> None:
            seen.append(time)
            metrics.clear()
            raise ValueError("no more")

        task = self._task("sleep 1.2", write_stat=lambda _, metrics: written.append(len(metrics)), on_stat=fail)
        assert self._run(driver, task).status is Status.SUCCESS
        assert len(seen) == len(written)
        assert all(written)

    @pytest.mark.parametrize(
        "fields",
        [
            *({"memory": memory} for memory in (-1, 1.5)),
            *({"timeout": timeout} for timeout in (-1, float("nan"))),
            *({"env": {name: "x"}} for name in ("", "=", "A=B", "A\0")),
        ],
        ids=str,
    )
    def test_a_wrong_task(self, driver: Driver, fields: dict[str, Any]) -> None:
        """A limit that limits nothing, or a name that no variable has, raises first, whoever implements the task."""
        task = self._task("true")
        vars(task).update(fields)
        with pytest.raises(ValueError, match=rf"^{next(iter(fields))} must be "):
            driver.prepare(task)
        assert self.leftovers() == []

    def test_close_twice(self, driver: Driver) -> None:
        """A cookie may be closed twice, whether or not it ran, and closes its task."""
        closed = []
        task = self._task("true", close=lambda: closed.append(True))
        unused = driver.prepare(task)
        unused.close()
        unused.close()
        assert closed
        with driver.prepare(self._task("true")) as cookie:
            cookie.run().wait()
            cookie.close()
        assert self.leftovers() == []

    def test_close_ends_what_runs(self, driver: Driver) -> None:
        cookie = driver.prepare(self._task("sleep 60"))
        run = cookie.run()
        started = monotonic()
        cookie.close()
        assert run.wait().status is Status.CANCELLED
        assert monotonic() - started < self.patience
        assert self.leftovers() == []

    def test_a_cookie_runs_once(self, driver: Driver) -> None:
        with driver.prepare(self._task("true")) as cookie:
            cookie.run().wait()
            with pytest.raises(CallstatsError):
                cookie.run()

    def test_nothing_is_left_in_the_background(self, driver: Driver) -> None:
        """Background processes end with the command, and their output is not waited for."""
        started = monotonic()
        result, (out, _) = self._shell(driver, "sleep 60 & (sleep 60 &) ; echo done")
        assert (result.status, out) == (Status.SUCCESS, b"done\n")
        assert monotonic() - started < self.patience
        assert self.leftovers() == []

    def test_fifty_short_calls(self, driver: Driver) -> None:
        """After 50 calls in a row no process, container, thread or file descriptor is left."""
        self._shell(driver, "true")  # creates what the driver keeps for all tasks
        before = self._count_resources()
        for number in range(50):
            result, (out, _) = self._shell(driver, f"echo {number}", stdin=io.BytesIO(b"x"))
            assert (result.status, out) == (Status.SUCCESS, f"{number}\n".encode())
        deadline = monotonic() + self.patience
        while (left := self._left_since(before)) and monotonic() < deadline:
            sleep(0.05)
        assert left == {}
        assert self.leftovers() == []

    def test_two_tasks_with_one_id(self, driver: Driver) -> None:
        """Tasks with the same id do not touch each other."""
        tasks = [self._task(f"sleep 0.5; exit {code}", id="callstats-same") for code in (5, 6)]
        with driver.prepare(tasks[0]) as first, driver.prepare(tasks[1]) as second:
            results = [run.wait() for run in (first.run(), second.run())]
        assert [result.error and result.error.exit_code for result in results] == [5, 6]
        assert self.leftovers() == []

    @pytest.mark.parametrize("name", ["", "a", "a b", "-x", "ü", "a" * 300])
    def test_any_id(self, driver: Driver, name: str) -> None:
        """An id need not be the name of anything."""
        assert self._shell(driver, "exit 3", id=name)[0].status is Status.ERROR

    def _task(self, script: str, **fields: Any) -> Task:
        return Task(image=self.image, command=["sh", "-c", script], **fields)

    def _run(self, driver: Driver, task: Task) -> RunResult:
        with driver.prepare(task) as cookie:
            return cookie.run().wait()

    def _shell(self, driver: Driver, script: str, **fields: Any) -> tuple[RunResult, tuple[bytes, bytes]]:
        out, err = io.BytesIO(), io.BytesIO()
        result = self._run(driver, self._task(script, stdout=out, stderr=err, **fields))
        return result, (out.getvalue(), err.getvalue())

    def _count_resources(self) -> dict[str, int]:
        children, descriptors = psutil.Process().children(recursive=True), psutil.Process().num_fds()
        return {"processes": len(children), "threads": threading.active_count(), "descriptors": descriptors}

    def _left_since(self, before: dict[str, int]) -> dict[str, int]:
        """Return how many more there are. There may be fewer: what earlier tests have left ends meanwhile."""
        return {kind: n - before[kind] for kind, n in self._count_resources().items() if n > before[kind]}
