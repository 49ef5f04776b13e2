"""A client of a Docker engine, and requests that the Docker SDK has no timeout for. Needs the Docker SDK."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Any
from weakref import WeakSet

from docker import APIClient
from docker.constants import MINIMUM_DOCKER_API_VERSION
from docker.errors import APIError, DockerException, NotFound, create_api_error_from_http_exception
from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnection, UnixHTTPConnectionPool
from requests import PreparedRequest, Response
from requests.exceptions import ConnectionError as ConnectionFailed
from requests.exceptions import HTTPError, Timeout
from urllib3.exceptions import HTTPError as BrokenStream
from urllib3.exceptions import ReadTimeoutError

from callstats.errors import DriverError

ENGINE_SECONDS = 60
"""Max time for an answer of the engine. On a busy machine, one that takes milliseconds has taken ten seconds."""

QUICK_SECONDS = 5
"""Max time for an answer that there is another way without."""

_CONFLICT_SECONDS = 0.1


class _Connection(UnixHTTPConnection):
    def connect(self) -> None:
        # The Docker SDK's own leaves the socket of a failed connection open.
        with _making:
            unix = socket.socket(socket.AF_UNIX)
            _connected.add(unix)
        try:
            unix.settimeout(self.timeout)
            unix.connect(self.unix_socket)
        except BaseException:
            unix.close()
            raise
        self.sock = unix


class _Pool(UnixHTTPConnectionPool):
    def _new_conn(self) -> Any:
        return _Connection(self.base_url, self.socket_path, self.timeout)  # type: ignore[arg-type]


class _Adapter(UnixHTTPAdapter):
    def get_connection(self, url: str | bytes, proxies: object = None) -> Any:  # noqa: ARG002 - a socket has no proxy
        with self.pools.lock:
            pool = self.pools.get(url)
            if pool is None:
                pool = self.pools[url] = _Pool(str(url), self.socket_path, self.timeout, maxsize=self.max_pool_size)
            return pool


class EngineClient(APIClient):
    """The Docker SDK's client, but for two leaks: of the socket of a failed connection, and of that of a failed stream."""

    def __init__(self, url: str) -> None:
        super().__init__(url, version=MINIMUM_DOCKER_API_VERSION, timeout=ENGINE_SECONDS)
        own = getattr(self, "_custom_adapter", None)  # none for TCP
        if isinstance(own, UnixHTTPAdapter):
            self._custom_adapter = _Adapter(f"http+unix://{own.socket_path}", ENGINE_SECONDS)
            self.mount("http+docker://", self._custom_adapter)
        self._version = str(self.version(api_version=False)["ApiVersion"])

    def send(self, request: PreparedRequest, **options: Any) -> Response:
        response = super().send(request, **options)
        if not response.ok:
            response.content  # noqa: B018 - to read it all frees the connection
        return response


_connected: WeakSet[socket.socket] = WeakSet()
_making = threading.Lock()
if hasattr(os, "register_at_fork"):  # a fork waits until a new socket is among the connected ones
    os.register_at_fork(before=_making.acquire, after_in_parent=_making.release, after_in_child=_making.release)


def disown_connections() -> None:
    """In a fork of this process: let go of the connections. Threads that only the parent has may hold their locks."""
    null = os.open(os.devnull, os.O_RDWR)
    for connection in list(_connected):
        if connection.fileno() >= 0:
            os.dup2(null, connection.fileno(), inheritable=False)
    os.close(null)


@contextmanager
def engine_errors(action: str, hint: str = "") -> Iterator[None]:
    """Raise the engine's errors as a DriverError: "can't <action>: <the engine's message, on one line>", and a way out."""
    try:
        yield
    except (DockerException, OSError, BrokenStream) as error:  # those of requests are OSErrors
        message = " ".join(str(getattr(error, "explanation", None) or error).split())
        raise DriverError(f"can't {action}: {message}{hint and f': {hint}'}") from error


def timed_out(error: OSError) -> bool:
    """Return whether a request ended because no answer, or no more of it, came in time."""
    return isinstance(error, Timeout) or (isinstance(error, ConnectionFailed) and isinstance(error.args[0], ReadTimeoutError))


def request(api: APIClient, method: str, path: str, timeout: float = ENGINE_SECONDS, **params: Any) -> Response:
    """Send a request, and raise an APIError for a status that is an error."""
    url = f"{api.base_url}/v{api.api_version}{path}"
    response = api.request(method, url, params=params, timeout=timeout)
    try:
        response.raise_for_status()
    except HTTPError as error:
        create_api_error_from_http_exception(error)
    return response


def kill(api: APIClient, container: str) -> None:
    """Kill a container, a paused one too. One that has ended, or was removed, is left unchanged."""
    try:
        request(api, "POST", f"/containers/{container}/kill", QUICK_SECONDS)
    except NotFound:
        return
    except APIError as error:
        if error.status_code != 409:
            raise
        if "paused" in str(error.explanation):
            request(api, "POST", f"/containers/{container}/unpause", QUICK_SECONDS)
            request(api, "POST", f"/containers/{container}/kill", QUICK_SECONDS)


def remove(api: APIClient, container: str, seconds: float = ENGINE_SECONDS) -> None:
    """Remove a container, even while it runs, with its anonymous volumes. One that is removed by others is waited for."""
    deadline = monotonic() + seconds
    while True:
        try:
            request(api, "DELETE", f"/containers/{container}", seconds, v=1, force=1)
        except NotFound:
            return
        except APIError as error:
            if error.status_code != 409 or monotonic() >= deadline:
                raise
            sleep(_CONFLICT_SECONDS)
        else:
            return
