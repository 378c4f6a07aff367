"""The Docker engine, as far as the backend needs it: a few calls, with the project's errors.

A missing thing is a result (``None``); everything else that fails is a ``StorageError``.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiodocker
import aiohttp
from aiodocker.volumes import DockerVolume

from codehub_storage.errors import ErrorCode, StorageError

_MISSING, _CONFLICT, _UNREACHABLE = 404, 409, 900
_REFUSED = (401, 403)
_NO_SPACE = ("no space left on device", "disk quota exceeded")
_DENIED = ("operation not permitted", "permission denied")
_LAST_LINES = 20
_SPARES_NAMED_VOLUMES = 23
"""Docker Engine 23.0 release notes: by default `volume prune` removes anonymous volumes only."""
_LISTED = ("Id", "Names", "Labels", "State", "Mounts")

Facts = Mapping[str, Any]
"""What the engine returns for a thing, with the engine's own names."""


class Engine:
    """One engine, reached at ``url`` (as in DOCKER_HOST; ``None``: where Docker's own command would find it)."""

    def __init__(self, url: str | None, *, timeout_seconds: float = 60.0) -> None:
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._docker: aiodocker.Docker | None = None

    async def close(self) -> None:
        """End the connection; the next call makes a new one."""
        if self._docker is not None:
            await self._docker.close()
            self._docker = None

    async def info(self) -> Facts:
        """`docker info`."""
        async with self._docker_for("the engine") as docker:
            answer: Facts = await docker.system.info()
            return answer

    async def has_image(self, name: str) -> bool:
        """Whether containers of this image could be made without a pull."""
        async with self._docker_for(f"image {name}") as docker:
            try:
                await docker.images.inspect(name)
            except aiodocker.DockerError as error:
                if error.status == _MISSING:
                    return False
                raise
            return True

    # ------------------------------------------------------------ volumes

    async def volumes(self) -> list[Facts]:
        """All volumes."""
        async with self._docker_for("the list of volumes") as docker:
            return list((await docker.volumes.list())["Volumes"] or ())

    async def volume(self, name: str) -> Facts | None:
        """One volume."""
        async with self._docker_for(f"volume {name}") as docker:
            try:
                answer: Facts = await DockerVolume(docker, name).show()
            except aiodocker.DockerError as error:
                if error.status == _MISSING:
                    return None
                raise
            return answer

    async def create_volume(self, name: str, labels: Mapping[str, str], driver: str, options: Facts) -> None:
        """A new volume; where one of the name is, nothing is done and nothing is said (see ``volume``)."""
        config = {"Name": name, "Labels": dict(labels), "Driver": driver, "DriverOpts": dict(options)}
        async with self._docker_for(f"volume {name} cannot be created") as docker:
            await docker.volumes.create(config)

    async def delete_volume(self, name: str) -> None:
        """Missing is fine. ``VolumeInUse`` if a container refers to it."""
        async with self._docker_for(f"volume {name} cannot be deleted") as docker:
            try:
                await DockerVolume(docker, name).delete()
            except aiodocker.DockerError as error:
                if error.status == _CONFLICT:
                    raise StorageError(ErrorCode.VOLUME_IN_USE, f"{name}: {error.message}") from error
                if error.status != _MISSING:
                    raise

    # ------------------------------------------------------------ containers

    async def containers(self, **filters: str) -> list[Facts]:
        """Containers in any state that match, as `docker ps -a` shows them. A filter's key is Docker's own."""
        wanted = json.dumps({key: [value] for key, value in filters.items()})
        async with self._docker_for("the list of containers") as docker:
            found = await docker.containers.list(all=1, filters=wanted)
            return [{key: each[key] for key in _LISTED} for each in found]

    async def container(self, container: str) -> Facts | None:
        """One container by name or id, as `docker inspect` shows it."""
        async with self._docker_for(f"container {container}") as docker:
            try:
                answer: Facts = await docker.containers.container(container).show()
            except aiodocker.DockerError as error:
                if error.status == _MISSING:
                    return None
                raise
            return answer

    async def create_container(self, name: str, config: Facts) -> str | None:
        """Its id; ``None`` if the name is taken. ``MoverFailed`` if the image is not there."""
        async with self._docker_for(f"container {name} cannot be created") as docker:
            try:
                return (await docker.containers.create(dict(config), name=name)).id
            except aiodocker.DockerError as error:
                if error.status == _CONFLICT:
                    return None
                if error.status == _MISSING and "image" in error.message.lower():
                    raise StorageError(
                        ErrorCode.MOVER_FAILED,
                        f"the engine has no image {config.get('Image')}",
                        hint="Build or pull the image of this version on that engine.",
                    ) from error
                raise

    async def start(self, container: str) -> None:
        """Start it; running already is fine."""
        async with self._docker_for(f"container {container} cannot be started") as docker:
            await docker.containers.container(container).start()

    async def stop(self, container: str, grace_seconds: float) -> None:
        """SIGTERM, then SIGKILL. Not running, or gone, is fine."""
        async with self._docker_for(f"container {container} cannot be stopped") as docker:
            limit = aiohttp.ClientTimeout(total=grace_seconds + (self._timeout.total or 0))
            await _or_gone(docker.containers.container(container).stop(t=round(grace_seconds), timeout=limit))

    async def remove(self, container: str) -> None:
        """Kill it if it runs, and remove it with its anonymous volumes. Gone, or being removed, is fine."""
        async with self._docker_for(f"container {container} cannot be removed") as docker:
            try:
                await _or_gone(docker.containers.container(container).delete(force=True, v=True))
            except aiodocker.DockerError as error:
                if error.status != _CONFLICT or "already in progress" not in error.message:
                    raise

    async def output(self, container: str, *, errors: bool = True, lines: int = _LAST_LINES) -> str:
        """The end of what it wrote; empty if it is gone."""
        async with self._docker_for(f"the log of container {container}") as docker:
            try:
                found = await docker.containers.container(container).log(
                    stdout=True, stderr=errors, tail=str(lines), timeout=self._timeout
                )
            except aiodocker.DockerError as error:
                if error.status == _MISSING:
                    return ""
                raise
            return "".join(found).strip()

    @asynccontextmanager
    async def _docker_for(self, what: str) -> AsyncIterator[aiodocker.Docker]:
        try:
            if self._docker is None:
                self._docker = aiodocker.Docker(self._url, timeout=self._timeout)
            yield self._docker
        except aiodocker.DockerError as error:
            raise _translated(error, what) from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise StorageError(
                ErrorCode.BACKEND_UNAVAILABLE, f"{what}: the Docker engine does not answer ({error!r})"
            ) from error
        except (AssertionError, ValueError) as error:  # aiodocker finds no socket, or cannot read the address
            raise StorageError(
                ErrorCode.BACKEND_UNAVAILABLE, f"{what}: no Docker engine at {self._url or 'the usual places'}"
            ) from error


async def _or_gone(call: Any) -> None:
    try:
        await call
    except aiodocker.DockerError as error:
        if error.status != _MISSING:
            raise


def _translated(error: aiodocker.DockerError, what: str) -> StorageError:
    text = error.message.strip()
    if any(words in text.lower() for words in _NO_SPACE):
        return StorageError(ErrorCode.NO_SPACE, f"{what}: {text}")
    if error.status in _REFUSED or any(words in text.lower() for words in _DENIED):
        return StorageError(ErrorCode.ACCESS_DENIED, f"{what}: {text}")
    if error.status == 400:
        return StorageError(ErrorCode.UNSUPPORTED, f"{what}: {text}")
    return StorageError(ErrorCode.BACKEND_UNAVAILABLE, f"{what}: {text}")


def warnings_of(info: Facts) -> list[str]:
    """What an operator of this engine should know; see docs/docker.md."""
    found = []
    major = str(info.get("ServerVersion", "")).partition(".")[0]
    if major.isdecimal() and int(major) < _SPARES_NAMED_VOLUMES:
        found.append(f"version {info['ServerVersion']}: `docker volume prune` deletes homes whose workspace is stopped")
    if any("name=userns" in option for option in info.get("SecurityOptions") or ()):
        found.append("user namespaces are remapped: owners in archives are those that containers see")
    return found
