"""DockerDriver: a container of a Docker engine."""

from __future__ import annotations

import atexit
import socket
import weakref
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from callstats.drivers.base import Config, ContainerTask
from callstats.drivers.docker.run import DockerRun
from callstats.errors import DriverError
from callstats.image import ImageRef, parse_image

if TYPE_CHECKING:
    from docker import APIClient

_SECONDS = 60
"""How long the engine may take for an answer."""

_LABEL = "callstats.task"


class DockerDriver:
    """Runs a task as a container, and takes the samples that the engine sends, one a second.

    Parameters
    ----------
    config : Config
        Where the engine is, and the weight of its containers' processor time.
    network : str, optional
        The network that containers join, such as ``none``; by default the engine's own.

    Notes
    -----
    Samples are read by `pick_stats`. It needs the extra ``callstats[docker]``.
    """

    def __init__(self, config: Config = Config(), *, network: str | None = None) -> None:  # noqa: B008 - it is frozen
        self._config = config
        self._network = network

    def prepare(self, task: ContainerTask) -> DockerCookie:
        """Pull the image where it is missing, and create the container.

        Parameters
        ----------
        task : ContainerTask

        Returns
        -------
        Cookie

        Raises
        ------
        DriverError
            When the engine can't be reached, or refuses the image or the container.
        ImageError
            When the image's name is none.
        ImportError
            When the Docker SDK is missing.
        """
        image = parse_image(task.image)
        name = _full_name(image)
        with ExitStack() as held:
            api = self._connect()
            held.callback(api.close)
            try:
                if not _has_image(api, name):
                    _pull(api, image)
                cookie = DockerCookie(task, api, self._create(api, name, task))
            except _engine_errors() as error:
                raise DriverError(f"can't prepare {task.image!r}: {_told(error)}") from error
            held.pop_all()
        return cookie

    def _connect(self) -> APIClient:
        """Connections of one task's own, which are closed with its cookie."""
        try:
            import docker
        except ModuleNotFoundError:
            raise ImportError('callstats.drivers.DockerDriver needs docker: pip install "callstats[docker]"') from None
        try:
            _knock(self._config.docker)
            return docker.APIClient(self._config.docker, version="auto", timeout=_SECONDS)
        except _engine_errors() as error:
            raise DriverError(f"can't reach the engine at {self._config.docker}: {_told(error)}") from error

    def _create(self, api: APIClient, image: str, task: ContainerTask) -> str:
        host = api.create_host_config(
            binds=[f"{outside}:{inside}" for outside, inside in task.volumes],
            network_mode=self._network,
            cpu_shares=self._config.cpu_shares or None,
            mem_limit=task.memory or None,
            memswap_limit=task.memory or None,
        )
        container = api.create_container(
            image,
            command=list(task.command) or None,
            name=task.id,
            environment=dict(task.env),
            working_dir=task.work_dir or None,
            stdin_open=task.stdin is not None,
            host_config=host,
            labels={_LABEL: task.id},
            detach=False,
        )
        return str(container["Id"])


class DockerCookie:
    """One request to run a container, which is there until `close`."""

    def __init__(self, task: ContainerTask, api: APIClient, container: str) -> None:
        self._task = task
        self._api = api
        self._container = container
        self._run: DockerRun | None = None
        self._closed = False
        _open.add(self)

    def run(self) -> DockerRun:
        """Start the container."""
        if self._closed or self._run is not None:
            raise DriverError("expected a cookie that was not used before: a task runs once")
        self._run = DockerRun(self._task, self._api, self._container)
        try:
            self._run.start()
        except _engine_errors() as error:
            raise DriverError(f"can't run {self._task.image!r}: {_told(error)}") from error
        return self._run

    def close(self) -> None:
        """End and remove the container."""
        from docker.errors import NotFound

        if not self._closed:
            if self._run is not None:
                self._run.end()
            try:
                with suppress(NotFound):
                    self._api.remove_container(self._container, v=True, force=True)
            except _engine_errors() as error:
                raise DriverError(f"can't remove container {self._container[:12]}: {_told(error)}") from error
            self._closed = True
            self._api.close()
            _open.discard(self)
        self._task.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _knock(url: str) -> None:
    """Raise OSError when nobody listens on a local socket: the Docker SDK would do so too, but leave a socket open."""
    scheme, _, path = url.partition("://")
    if scheme in ("unix", "http+unix"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect("/" + path.lstrip("/"))


def _full_name(image: ImageRef) -> str:
    path = f"{image.registry}/{image.repository}" if image.registry else image.repository
    tag = f":{image.tag}" if image.tag is not None else ""
    return f"{path}@{image.digest}" if image.digest else path + tag


def _has_image(api: APIClient, name: str) -> bool:
    from docker.errors import ImageNotFound

    try:
        api.inspect_image(name)  # type: ignore[no-untyped-call]
    except ImageNotFound:
        return False
    return True


def _pull(api: APIClient, image: ImageRef) -> None:
    path = f"{image.registry}/{image.repository}" if image.registry else image.repository
    for line in api.pull(path, tag=image.digest or image.tag, stream=True, decode=True):
        if "error" in line:  # the answer has begun by then, so it is no HTTP error
            raise DriverError(f"can't pull {path!r}: {line['error']}")


def _engine_errors() -> tuple[type[Exception], ...]:
    """What talking to an engine may raise."""
    from docker.errors import DockerException
    from requests import RequestException

    return DockerException, RequestException, OSError


def _told(error: Any) -> str:
    """The engine's own words, on one line."""
    return " ".join(str(getattr(error, "explanation", None) or error).split())


_open: weakref.WeakSet[DockerCookie] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """No container outlives the interpreter."""
    for cookie in list(_open):
        with suppress(DriverError):
            cookie.close()
