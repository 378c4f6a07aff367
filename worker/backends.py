"""From settings to the backend of this place, and to the environment of its movers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import SecretStr

from activities.backends.base import VolumeBackend
from activities.backends.containers import MoverImage
from activities.backends.directory.backend import PRELOAD, DirectoryBackend
from activities.backends.wait_policy import WaitPolicy
from activities.dataplane.fingerprint import change_fingerprint
from codehub_storage.errors import ErrorCode, StorageError
from worker.settings import Settings, variable
from worker.version import service_version

if TYPE_CHECKING:
    from activities.backends.docker.backend import DockerBackend
    from activities.backends.docker.engine import Engine
    from activities.backends.kubernetes.backend import KubernetesBackend
    from activities.backends.kubernetes.client import Api

MOVER_ENTRY = "worker.mover:main"
"""What a mover process of the directory backend calls."""
PRELOADED = "worker.preloaded"  # only its name: to import it is to read what movers need

FORWARDED_SETTINGS = (
    *("place", "backend", "bucket", "s3_region", "s3_access_key", "s3_secret_key", "s3_session_token", "s3_addressing"),
    *("mover_concurrency", "segment_bytes", "allow_devices", "budget_bytes"),
    *("time_scale", "log_format", "log_level"),
)
_SECRETS = frozenset({"s3_access_key", "s3_secret_key", "s3_session_token"})
FORWARDED_PREFIXES = ("TEMPORAL_", "AWS_")
"""Temporal's connection, and AWS's provider chain. Files that they name must be in the image."""
NON_SECRET = frozenset(
    {
        *("AWS_REGION", "AWS_DEFAULT_REGION", "TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"),
        *("TEMPORAL_TLS", "TEMPORAL_TLS_SERVER_NAME", "TEMPORAL_TLS_DISABLE_HOST_VERIFICATION"),
    }
)
"""What of these may be in a Pod, which more people may read than a Secret."""


@asynccontextmanager
async def open_backend(settings: Settings) -> AsyncIterator[VolumeBackend]:
    """The backend of this place, with its connection."""
    if settings.backend == "local-docker":
        async with aclosing(_docker(settings)) as docker:
            yield docker
    elif settings.backend == "k8s":
        async with aclosing(_kubernetes(settings)) as kubernetes:
            yield kubernetes
    else:
        yield DirectoryBackend(
            settings.volumes,
            mover_entry=MOVER_ENTRY,
            walk=change_fingerprint,
            wait_policy=wait_policy(settings),
            preload=(*PRELOAD, PRELOADED),
            environment=settings.options(),
        )


def wait_policy(settings: Settings) -> WaitPolicy:
    """How long a backend waits for other processes."""
    usual = WaitPolicy()
    return WaitPolicy(
        lock_seconds=usual.lock_seconds * settings.time_scale, grace_seconds=usual.grace_seconds * settings.time_scale
    )


def mover_image(settings: Settings) -> MoverImage:
    """The containers of movers."""
    image = settings.mover_image or f"codehub-storage:{service_version()}"
    return MoverImage(image, mover_environment(settings), memory_bytes=settings.mover_memory)


def mover_environment(settings: Settings) -> dict[str, str]:
    """The environment of a mover in a container: the store and server of this worker, by addresses that it reaches.

    It holds credentials.
    """
    told = {name: value for name, value in os.environ.items() if name.startswith(FORWARDED_PREFIXES)}
    for name in FORWARDED_SETTINGS:
        value = getattr(settings, name)
        if value is not None:
            told[variable(name)] = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    endpoint = settings.mover_s3_endpoint or settings.s3_endpoint
    if endpoint is not None:
        told[variable("s3_endpoint")] = endpoint
    connection = settings.temporal_connect_config()
    told["TEMPORAL_ADDRESS"] = settings.mover_temporal_address or str(connection.get("target_host"))
    told["TEMPORAL_NAMESPACE"] = str(connection.get("namespace") or "default")
    return told


def docker_engine(settings: Settings) -> Engine:
    """The Docker engine of this place; who asks closes it."""
    try:
        from activities.backends.docker.engine import Engine
    except ImportError as error:
        raise _needs("Docker", "docker", error) from error
    return Engine(settings.docker_host)


def cluster_api(settings: Settings) -> Api:
    """The API server of this place, and its namespace; who asks closes it."""
    try:
        from activities.backends.kubernetes.client import Api, Cluster
    except ImportError as error:
        raise _needs("Kubernetes", "kubernetes", error) from error
    return Api(
        Cluster(
            settings.k8s_namespace,
            kubeconfig=str(settings.k8s_kubeconfig) if settings.k8s_kubeconfig else None,
            context=settings.k8s_context,
        )
    )


def _needs(backend: str, extra: str, error: ImportError) -> StorageError:
    return StorageError(
        ErrorCode.UNSUPPORTED,
        f"the {backend} backend needs {error.name}",
        hint=f"pip install 'codehub-storage-service[{extra}]'",
    )


def _docker(settings: Settings) -> DockerBackend:
    try:
        from activities.backends.docker.backend import DockerBackend
    except ImportError as error:
        raise _needs("Docker", "docker", error) from error
    return DockerBackend(
        docker_engine(settings),
        mover_image(settings),
        driver=settings.docker_volume_driver,
        options=settings.docker_volume_options,
        network=settings.docker_network,
        workspace_label=settings.workspace_label,
        wait_policy=wait_policy(settings),
    )


def _kubernetes(settings: Settings) -> KubernetesBackend:
    try:
        from activities.backends.kubernetes.backend import KubernetesBackend
        from activities.backends.kubernetes.claims import ClaimDefaults
        from activities.backends.kubernetes.lifecycle import Waits
        from activities.backends.kubernetes.pods import PodShape
        from activities.backends.kubernetes.template import read_template
    except ImportError as error:
        raise _needs("Kubernetes", "kubernetes", error) from error
    waits, usual = wait_policy(settings), Waits()
    image = mover_image(settings)
    shape = PodShape(
        image=replace(image, environment=_without_secrets(image.environment)),
        secret=settings.k8s_secret,
        pull_policy=settings.k8s_pull_policy,
        scratch_bytes=settings.k8s_scratch_size,
        grace_seconds=max(1, round(waits.grace_seconds)),
        template=read_template(settings.k8s_pod_template),
    )
    return KubernetesBackend(
        cluster_api(settings),
        shape,
        defaults=ClaimDefaults(settings.k8s_volume_size, settings.k8s_storage_class, settings.k8s_access_mode),
        workspace_label=settings.workspace_label,
        wait_policy=waits,
        waits=Waits(
            ready_seconds=settings.scaled(settings.k8s_ready_timeout).total_seconds(),
            obstacle_seconds=usual.obstacle_seconds * settings.time_scale,
            look_seconds=usual.look_seconds,
        ),
    )


def _without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Settings that are no secret. The rest comes from the Secret that the namespace has."""
    secret = {variable(name) for name in _SECRETS}
    return {
        name: value
        for name, value in environment.items()
        if name not in secret and (name in NON_SECRET or not name.startswith(FORWARDED_PREFIXES))
    }
