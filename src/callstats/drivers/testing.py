"""What every driver must do, as checks for pytest. It needs pytest and psutil.

A driver's author subclasses `DriverConformance` in a test module of their own::

    class TestMyDriver(DriverConformance):
        image = "busybox"

        @pytest.fixture
        def driver(self):
            return MyDriver()

The checks run commands of a POSIX shell, and whatever is in ``image`` must have one. Before its import,
``pytest.register_assert_rewrite("callstats.drivers.testing")`` makes failures tell more.
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
    """The checks. A subclass gives a fixture `driver`, and overrides what is said here of its surroundings."""

    image = ""
    """An image with a shell; without meaning to a driver that knows none."""

    missing_image: str | None = None
    """The name of an image that isn't there; None for a driver that knows no images."""

    patience = 10.0
    """Seconds within which a task that should end has ended."""

    @pytest.fixture
    def driver(self) -> Driver:
        """The driver to check, sampling as often as it can."""
        raise NotImplementedError

    def leftovers(self) -> list[str]:
        """What the driver's tasks have left outside of this process, such as containers."""
        return []

    # --- how tasks end ------------------------------------------------------------------------------------------------------

    def test_success(self, driver: Driver) -> None:
        """A command that ends with 0 is a success, without an error."""
        result, output = self._shell(driver, "echo out; echo err >&2")
        assert (result.status, result.error) == (Status.SUCCESS, None)
        assert output == (b"out\n", b"err\n")

    def test_error_exit(self, driver: Driver) -> None:
        """A command that ends with another code is a result, and tells the code."""
        result, _ = self._shell(driver, "exit 3")
        assert result.status is Status.ERROR
        assert result.error is not None
        assert result.error.exit_code == 3

    def test_ended_by_a_signal(self, driver: Driver) -> None:
        """A command ended by signal n tells 128 + n."""
        result, _ = self._shell(driver, "sh -c 'kill -TERM $$'; exit $?")
        assert result.error is not None
        assert result.error.exit_code == 128 + 15

    def test_missing_command(self, driver: Driver) -> None:
        """A command that isn't there is a result with status error, and nothing to raise."""
        result = self._run(driver, Task(image=self.image, command=["no-such-command-here"]))
        assert result.status is Status.ERROR
        assert result.error is not None
        assert result.error.exit_code == 127

    def test_command_that_can_not_run(self, driver: Driver) -> None:
        """A file that is no program is a result with status error."""
        result = self._run(driver, Task(image=self.image, command=["/etc"]))
        assert result.status is Status.ERROR
        assert result.error is not None
        assert result.error.exit_code == 126

    def test_missing_image(self, driver: Driver) -> None:
        """An image that isn't there and can't be had raises before anything runs."""
        if self.missing_image is None:
            pytest.skip("this driver knows no images")
        with pytest.raises(CallstatsError):
            driver.prepare(Task(image=self.missing_image, command=["true"]))
        assert self.leftovers() == []

    def test_the_task_s_timeout(self, driver: Driver) -> None:
        """A task that runs longer than it may is ended, with all that it started."""
        started = monotonic()
        result, _ = self._shell(driver, "sleep 60 & sleep 60", timeout=0.5)
        assert result.status is Status.TIMEOUT
        assert result.error is not None
        assert monotonic() - started < self.patience

    def test_the_wait_s_timeout(self, driver: Driver) -> None:
        """The earlier of the task's and the wait's timeout holds."""
        started = monotonic()
        with driver.prepare(self._task("sleep 60", timeout=50)) as cookie:
            assert cookie.run().wait(0.3).status is Status.TIMEOUT
        with driver.prepare(self._task("sleep 60", timeout=0.3)) as cookie:
            assert cookie.run().wait(50).status is Status.TIMEOUT
        assert monotonic() - started < 2 * self.patience

    def test_cancel_from_another_thread(self, driver: Driver) -> None:
        """A cancel that another thread sets ends the task."""
        cancel, started = threading.Event(), monotonic()
        timer = threading.Timer(0.3, cancel.set)
        timer.start()
        with driver.prepare(self._task("sleep 60")) as cookie:
            result = cookie.run().wait(cancel=cancel)
        timer.join()
        assert result.status is Status.CANCELLED
        assert monotonic() - started < self.patience

    def test_out_of_memory(self, driver: Driver) -> None:
        """A task that takes more memory than it may is killed."""
        result, _ = self._shell(driver, "exec dd if=/dev/zero of=/dev/null bs=200M count=100000", memory=64 * _MIB, timeout=60)
        assert result.status is Status.KILLED
        assert result.error is not None

    def test_the_result_stays(self, driver: Driver) -> None:
        """A second wait gives the same result, and neither a timeout nor a cancel changes it."""
        cancel = threading.Event()
        cancel.set()
        with driver.prepare(self._task("exit 4")) as cookie:
            run = cookie.run()
            assert run.wait() == run.wait(0) == run.wait(cancel=cancel)

    # --- what tasks are given -----------------------------------------------------------------------------------------------

    def test_output_larger_than_any_pipe(self, driver: Driver) -> None:
        """Output on both streams comes out whole."""
        script = "i=0; while [ $i -lt 64 ]; do head -c 65536 /dev/zero; head -c 32768 /dev/zero >&2; i=$((i + 1)); done"
        result, (out, err) = self._shell(driver, script)
        assert result.status is Status.SUCCESS
        assert (len(out), len(err)) == (64 * 65_536, 64 * 32_768)

    def test_stdin(self, driver: Driver) -> None:
        """Input is read to its end, more than any pipe holds too; a command that doesn't read it is no fault."""
        data = os.urandom(3 * _MIB)
        assert self._shell(driver, "cat", stdin=io.BytesIO(data))[1][0] == data
        assert self._shell(driver, "cat")[1][0] == b""
        assert self._shell(driver, "exit 0", stdin=io.BytesIO(data))[0].status is Status.SUCCESS

    def test_env(self, driver: Driver) -> None:
        """Variables are there, on top of what makes programs be found."""
        result, (out, _) = self._shell(driver, 'echo "$A|$B"; ls / > /dev/null', env={"A": "1 = 2", "B": "grün"})
        assert result.status is Status.SUCCESS
        assert out.decode() == "1 = 2|grün\n"

    def test_work_dir(self, driver: Driver) -> None:
        """The command begins in the working directory."""
        assert self._shell(driver, "pwd", work_dir="/usr")[1][0] == b"/usr\n"

    # --- samples ------------------------------------------------------------------------------------------------------------

    def test_samples(self, driver: Driver) -> None:
        """Samples are whole numbers at times that do not go back; none comes after the end."""
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
            assert metrics["mem_usage"] > 0

    # --- the end ------------------------------------------------------------------------------------------------------------

    def test_close_twice(self, driver: Driver) -> None:
        """A cookie may be closed again, whether or not it ran, and closes its task."""
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
        """Closing a cookie ends a task that still runs."""
        cookie = driver.prepare(self._task("sleep 60"))
        run = cookie.run()
        started = monotonic()
        cookie.close()
        assert run.wait().status is Status.CANCELLED
        assert monotonic() - started < self.patience
        assert self.leftovers() == []

    def test_a_cookie_runs_once(self, driver: Driver) -> None:
        """A second run raises."""
        with driver.prepare(self._task("true")) as cookie:
            cookie.run().wait()
            with pytest.raises(CallstatsError):
                cookie.run()

    def test_nothing_is_left_in_the_background(self, driver: Driver) -> None:
        """When the command has ended, so has what it left in the background, and its output is no reason to wait."""
        started = monotonic()
        result, (out, _) = self._shell(driver, "sleep 60 & (sleep 60 &) ; echo done")
        assert (result.status, out) == (Status.SUCCESS, b"done\n")
        assert monotonic() - started < self.patience
        assert self.leftovers() == []

    def test_fifty_short_calls(self, driver: Driver) -> None:
        """After 50 calls in a row no process, container, thread or file descriptor is left."""
        self._shell(driver, "true")  # what a driver keeps for all its tasks, it has now
        before = self._held()
        for number in range(50):
            result, (out, _) = self._shell(driver, f"echo {number}", stdin=io.BytesIO(b"x"))
            assert (result.status, out) == (Status.SUCCESS, f"{number}\n".encode())
        deadline = monotonic() + self.patience
        while self._held() != before and monotonic() < deadline:
            sleep(0.05)
        assert self._held() == before
        assert self.leftovers() == []

    # --- tools --------------------------------------------------------------------------------------------------------------

    def _task(self, script: str, **fields: Any) -> Task:
        return Task(image=self.image, command=["sh", "-c", script], **fields)

    def _run(self, driver: Driver, task: Task) -> RunResult:
        with driver.prepare(task) as cookie:
            return cookie.run().wait()

    def _shell(self, driver: Driver, script: str, **fields: Any) -> tuple[RunResult, tuple[bytes, bytes]]:
        """Run a script to its end; its result, and what it wrote."""
        out, err = io.BytesIO(), io.BytesIO()
        result = self._run(driver, self._task(script, stdout=out, stderr=err, **fields))
        return result, (out.getvalue(), err.getvalue())

    def _held(self) -> tuple[int, int, int]:
        """How many children, threads and file descriptors this process has."""
        return len(psutil.Process().children(recursive=True)), threading.active_count(), psutil.Process().num_fds()
