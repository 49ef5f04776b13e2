"""DockerDriver: run a task as a container of a Docker engine."""

from __future__ import annotations

import os
import re
from contextlib import closing
from typing import TYPE_CHECKING

from callstats._extras import needs
from callstats.drivers.base import Config, ContainerTask, Cookie, Driver, validate_task
from callstats.errors import DriverError
from callstats.image import ImageRef, parse_image

if TYPE_CHECKING:
    from docker import APIClient

_CONFLICT = 409
_CONTAINER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_LOCAL_IMAGE = re.compile(r"sha256:[0-9a-f]{64}")


class DockerDriver(Driver):
    """Run a task as a container, and take the engine's samples, one a second. It needs the extra ``callstats[docker]``.

    Parameters
    ----------
    config : Config, optional
        The address of the engine, and the weight of its containers' processor time. By default the engine is that of DOCKER_HOST,
        else of the usual socket.
    network : str, optional
        The network that containers join, such as ``none``. The default is the engine's own.
    """

    def __init__(self, config: Config | None = None, *, network: str | None = None) -> None:
        self._config = Config(os.environ.get("DOCKER_HOST") or Config.docker) if config is None else config
        self._network = network
        self._orphans_removed = False

    def validate(self, task: ContainerTask) -> ImageRef | None:
        """Return the image's reference, None for an image's ID. Raise what `prepare` does for wrong use, and ask no engine."""
        validate_task(task)
        image = None if _LOCAL_IMAGE.fullmatch(task.image) else parse_image(task.image)
        with needs("drivers.DockerDriver", "docker"):
            import docker  # noqa: F401 - `engine` imports it
        return image

    def prepare(self, task: ContainerTask) -> Cookie:
        """Pull the image if the engine lacks it, and create the container.

        Closing the cookie removes the container. The first call also removes the containers of recorders that were killed.

        Raises
        ------
        DriverError
            When the engine can't be reached, or rejects the image or the container.
        ImageError
            When ``task.image`` is neither an image's name nor its ID.
        """
        image = self.validate(task)
        from callstats.drivers.docker.engine import EngineClient, engine_errors
        from callstats.drivers.docker.owner import abandoned, remove_orphans
        from callstats.drivers.docker.run import DockerRun

        with engine_errors(f"reach the engine at {self._config.docker}", "start it, or name another by DOCKER_HOST"):
            api = EngineClient(self._config.docker)
        try:
            with engine_errors(f"prepare {task.image!r}"):
                if abandoned or not self._orphans_removed:
                    remove_orphans(api)
                    self._orphans_removed = True
                name = task.image if image is None else _pull_missing(api, image)
                return DockerRun(task, api, self._create(api, name, task))
        except BaseException:
            api.close()
            raise

    def _create(self, api: APIClient, image: str, task: ContainerTask) -> str:
        from docker.errors import APIError

        from callstats.drivers.docker.owner import LABEL, recorder_label

        host = api.create_host_config(
            binds=[f"{outside}:{inside}" for outside, inside in task.volumes],
            network_mode=self._network,
            cpu_shares=self._config.cpu_shares or None,
            mem_limit=task.memory or None,
            memswap_limit=task.memory or None,
        )

        def create(name: str | None) -> str:
            container = api.create_container(
                image,
                command=list(task.command) or None,
                name=name,
                environment=dict(task.env),
                working_dir=task.work_dir or None,
                stdin_open=task.stdin is not None,
                host_config=host,
                labels={"callstats.task": task.id, LABEL: recorder_label()},
                detach=False,
            )
            return str(container["Id"])

        if not _CONTAINER_NAME.fullmatch(task.id):
            return create(None)
        try:
            return create(task.id)
        except APIError as error:
            if error.status_code != _CONFLICT:
                raise
            return create(None)  # another container has the name


def _pull_missing(api: APIClient, image: ImageRef) -> str:
    """Pull an image if the engine lacks it, and return its full name."""
    from docker.errors import ImageNotFound

    path = f"{image.registry}/{image.repository}" if image.registry else image.repository
    tag = f":{image.tag}" if image.tag is not None else ""
    name = f"{path}@{image.digest}" if image.digest else path + tag
    try:
        api.inspect_image(name)  # type: ignore[no-untyped-call]
    except ImageNotFound:
        with closing(api.pull(path, tag=image.digest or image.tag, stream=True, decode=True)) as lines:
            for line in lines:
                if "error" in line:  # the answer has begun by then, so it is no HTTP error
                    raise DriverError(f"can't pull {path!r}: {line['error']}") from None
    return name
