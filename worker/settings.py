"""The one reader of the environment: every setting, its default, and where it comes from when it is not set.

A setting is found in this order: the environment (``CODEHUB_STORAGE_...``), the ``dev.json`` of a running embedded
stack, the default. Temporal's connection is not configured twice: its own variables and profiles hold
(``TEMPORAL_ADDRESS``, ``TEMPORAL_NAMESPACE``, ``TEMPORAL_TLS...``, ``TEMPORAL_CONFIG_FILE``).
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import ByteSize, Field, PrivateAttr, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from temporalio.envconfig import ClientConnectConfig

from codehub_storage.client import DEFAULT_ADDRESS, connect_config
from codehub_storage.contracts import DEFAULT_PLACE, Place
from codehub_storage.errors import ErrorCode, StorageError
from worker.dev.info import DevInfo, Layout

PREFIX = "CODEHUB_STORAGE_"
_STORE_FIELDS = ("s3_endpoint", "s3_access_key", "s3_secret_key")
_NOT_SETTINGS = frozenset({"CODEHUB_STORAGE_FAILPOINT", "CODEHUB_STORAGE_FAILPOINT_TRACE"})
_TEMPORAL_CHOICES = ("TEMPORAL_ADDRESS", "TEMPORAL_PROFILE", "TEMPORAL_CONFIG_FILE")
_AWS_SUFFIXES = (".amazonaws.com", ".amazonaws.com.cn")
_SELF_HOSTED_SETTLE = timedelta(seconds=60)

log = logging.getLogger(__name__)


class Origin(StrEnum):
    """Where a value in force comes from."""

    OPTION = "option"
    ENVIRONMENT = "environment"
    STACK = "stack"
    FILE = "file"
    DEFAULT = "default"


class TemporalConnection(NamedTuple):
    """How Temporal is reached, without its secrets. ``profile``: the one that was named, of Temporal's own file."""

    address: str
    namespace: str
    profile: str | None
    tls: bool
    api_key: bool
    origin: Origin


class Retention(StrEnum):
    """What becomes of the archive that a newer one replaces (on a versioned bucket)."""

    NONE = "none"
    KEEP = "keep"


def default_data_dir() -> Path:
    """The user's data directory, as the XDG rules name it."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "codehub-storage"


class Settings(BaseSettings):
    """What a worker, a mover or a command needs to know of its surroundings. Frozen; shows no secret."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    data_dir: Path = Field(
        default_factory=default_data_dir, description="Folder of the embedded stack: servers' data, volumes, logs."
    )

    place: Place = Field(default=DEFAULT_PLACE, description="Name of the volume place that this worker serves.")
    backend: Literal["directory", "local-docker", "k8s"] = Field(
        default="directory", description="Kind of volumes at this place."
    )
    volume_root: Path | None = Field(
        default=None, description="Folder that holds the volumes of the directory backend; absolute."
    )

    docker_host: str | None = Field(
        default=None,
        pattern=r"^(unix|tcp|http|https|ssh)://",
        description="Address of the Docker engine; unset: as the docker command finds it.",
    )
    docker_network: str | None = Field(
        default=None, description="Network of the movers' containers; unset: the engine's default."
    )
    docker_volume_driver: str = Field(default="local", description="Driver of new Docker volumes.")
    docker_volume_options: dict[str, str] = Field(
        default_factory=dict, description='Options of that driver, as JSON: {"type": "xfs", ...}.'
    )
    workspace_label: str = Field(
        default="codehub.workspace",
        min_length=1,
        description="Label whose value is the workspace id on the platform's own containers.",
    )
    mover_image: str | None = Field(
        default=None, description="Image of the movers' containers; unset: codehub-storage of this version."
    )
    mover_memory: Annotated[ByteSize, Field(ge=256 << 20)] = Field(
        default=ByteSize(512 << 20), description="Memory that a mover's container may take, such as 512MiB."
    )
    mover_temporal_address: str | None = Field(
        default=None, description="Temporal's host:port as containers reach it; unset: as this process does."
    )
    mover_s3_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^/\s@]+/?$",
        description="URL of the S3 server as containers reach it; unset: as this process does.",
    )

    k8s_namespace: str = Field(
        default="codehub-homes",
        pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$",
        description="Kubernetes namespace that holds the claims, and in which movers run.",
    )
    k8s_kubeconfig: Path | None = Field(
        default=None, description="Kubeconfig file; unset: the Pod's own account, else where kubectl would look."
    )
    k8s_context: str | None = Field(default=None, description="Context of the kubeconfig; unset: its current one.")
    k8s_storage_class: str | None = Field(
        default=None, description="Storage class of new claims; unset: the cluster's default."
    )
    k8s_volume_size: Annotated[ByteSize, Field(ge=1)] = Field(
        default=ByteSize(10 << 30), description="Size of new claims where nobody says another, such as 10GiB."
    )
    k8s_access_mode: Literal["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"] = Field(
        default="ReadWriteOnce", description="Access mode of new claims; the storage class must support it."
    )
    k8s_pod_template: Path | None = Field(
        default=None,
        description="YAML file of what operators add to the movers' Pods: node selector, tolerations, ...",
    )
    k8s_secret: str | None = Field(
        default=None, description="Secret of the namespace whose keys become variables of movers: the credentials."
    )
    k8s_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        default="IfNotPresent", description="When nodes pull the movers' image."
    )
    k8s_scratch_size: Annotated[ByteSize, Field(ge=64 << 20)] = Field(
        default=ByteSize(2 << 30), description="Room for the temporary files of a mover's Pod, such as 2GiB."
    )
    k8s_ready_timeout: timedelta = Field(
        default=timedelta(minutes=2),
        gt=timedelta(0),
        description="How long a mover's Pod may take to run before the step begins again, in seconds or as ISO 8601.",
    )

    bucket: str = Field(default="codehub-archives", min_length=3, description="Bucket of archives and records.")
    s3_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^/\s@]+/?$",
        description="URL of the S3 server, without credentials; unset for AWS.",
    )
    s3_region: str = Field(default="us-east-1", description="Region that requests are signed for.")
    s3_access_key: SecretStr | None = Field(
        default=None, description="Access key; unset for AWS's provider chain (profile, role, instance)."
    )
    s3_secret_key: SecretStr | None = Field(default=None, description="Secret that belongs to the access key.")
    s3_session_token: SecretStr | None = Field(
        default=None, description="Token of temporary credentials; belongs to the two keys."
    )
    s3_addressing: Literal["auto", "path", "virtual"] = Field(
        default="auto", description="Where the bucket stands in a URL; auto: path for an own endpoint, else virtual."
    )
    s3_ca_bundle: Path | None = Field(default=None, description="File of the authorities trusted for https.")
    settle: timedelta | None = Field(
        default=None,
        ge=timedelta(0),
        description="Wait between the upload's end and its proof, in seconds or as ISO 8601, until a power cut at the "
        "store no longer loses the object. Unset: what `init` noted, 0 for AWS and where settle_sync_dir is set, else "
        "60 seconds.",
    )
    settle_sync_dir: Path | None = Field(
        default=None, description="Data folder of a store on this machine: it is synced to disk instead of waited for."
    )
    retention: Retention = Field(
        default=Retention.NONE,
        description="What becomes of a replaced archive: none deletes it, keep leaves it restorable by archive id.",
    )

    web_ui: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="URL of Temporal's web UI, for links; unset: that of the running stack.",
    )

    max_movers: int = Field(default=4, ge=1, le=1000, description="Movers that run at a time, for each worker.")
    mover_concurrency: int = Field(default=4, ge=1, le=64, description="Segments that one mover works on at a time.")
    segment_bytes: ByteSize | None = Field(
        default=None,
        description="Raw bytes that a segment aims at, such as 8MiB. Unset: 4MiB. More where the volume is large.",
    )
    allow_devices: bool = Field(
        default=False,
        description="Device nodes go into archives too, instead of being left out and counted. Overlay whiteouts (0/0) "
        "always do.",
    )
    budget_bytes: Annotated[ByteSize, Field(ge=16 << 20)] = Field(
        default=ByteSize(32 << 20),
        description="Memory of one mover for segments that are packed, and as much again for parts under way to the "
        "store, such as 32MiB. With more, larger homes than 36 GB have four segments packed at a time, too.",
    )
    ready_file: Path | None = Field(
        default=None,
        description="File that a worker makes when it serves its place and removes when it begins to stop, for probes; "
        "absolute, in a folder that is there.",
    )
    time_scale: float = Field(
        default=1.0, gt=0, allow_inf_nan=False, description="Factor on every timeout and retry interval."
    )

    log_format: Literal["json", "text"] = Field(default="text", description="Shape of a log line.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="Least level logged.")

    _stack: DevInfo | None = PrivateAttr(default=None)
    _origins: Mapping[str, Origin] = PrivateAttr(default_factory=dict)

    @field_validator("volume_root", "settle_sync_dir", "data_dir", "k8s_kubeconfig", "k8s_pod_template", "ready_file")
    @classmethod
    def _is_absolute(cls, path: Path | None) -> Path | None:
        """A relative directory would be another one in each process."""
        if path is not None and not path.is_absolute():
            raise ValueError("must be an absolute path")
        return path

    @field_validator("s3_ca_bundle")
    @classmethod
    def _exists(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError("no such file")
        return path

    @field_validator("segment_bytes")
    @classmethod
    def _is_positive(cls, size: ByteSize | None) -> ByteSize | None:
        if size is not None and size < 1:
            raise ValueError("must be at least one byte")
        return size

    @field_validator("settle", "k8s_ready_timeout", mode="before")
    @classmethod
    def _in_seconds(cls, duration: object) -> object:
        """A bare number means seconds; a string of digits is none to pydantic."""
        try:
            return float(duration) if isinstance(duration, str) else duration
        except ValueError:
            return duration

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_capitals(cls, level: object) -> object:
        return level.upper() if isinstance(level, str) else level

    @model_validator(mode="after")
    def _has_both_keys(self) -> Self:
        if (self.s3_access_key is None) != (self.s3_secret_key is None):
            raise ValueError(f"{PREFIX}S3_ACCESS_KEY and {PREFIX}S3_SECRET_KEY belong together; set both or neither")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """``Settings(...)`` is what it is given; only ``load`` reads the environment."""
        return (init_settings,)

    @classmethod
    def load(cls, data_dir: Path | None = None) -> Self:
        """The settings of this process. A running stack is looked for in ``data_dir`` before the environment.

        Raises ``InvalidInput``, which names each variable that is wrong and shows no value.
        """
        _warn_of_unknown(cls)
        given = EnvSettingsSource(cls)()
        try:
            if data_dir is not None:
                given["data_dir"] = data_dir.absolute()
            folder = Path(given.get("data_dir") or default_data_dir())
            stack = DevInfo.read(folder)
            from_stack = _from_stack(stack, folder, given) if stack else {}
            settings = cls(**{**from_stack, **given})
        except ValidationError as error:
            raise StorageError(ErrorCode.INVALID_INPUT, _explain(error), hint=_HINT) from error
        settings._stack = stack
        settings._origins = {
            **dict.fromkeys(from_stack, Origin.STACK),
            **dict.fromkeys(given, Origin.ENVIRONMENT),
            **({"data_dir": Origin.OPTION} if data_dir is not None else {}),
        }
        return settings

    def origin(self, field: str) -> Origin:
        """Where the value of a field comes from."""
        return self._origins.get(field, Origin.DEFAULT)

    def options(self) -> dict[str, str]:
        """What the command line said, as variables: a child that inherits our environment knows nothing of it."""
        told = [name for name, origin in self._origins.items() if origin is Origin.OPTION]
        return {variable(name): str(getattr(self, name)) for name in told}

    @property
    def settle_delay(self) -> timedelta:
        """The wait that `init` notes for this store; see ``settle``."""
        if self.settle is not None:
            return self.settle
        return timedelta(0) if self.is_aws or self.settle_sync_dir else _SELF_HOSTED_SETTLE

    @property
    def is_aws(self) -> bool:
        """True where the store is AWS's own, which is durable once it has responded."""
        host = (self.s3_endpoint or "https://s3.amazonaws.com").rstrip("/").rpartition("//")[2].partition(":")[0]
        return host.endswith(_AWS_SUFFIXES)

    @property
    def volumes(self) -> Path:
        """The root of the directory backend: ``volume_root``, else the embedded stack's."""
        return self.volume_root or Layout(self.data_dir).volumes

    @property
    def web_ui_address(self) -> str | None:
        """Where people look at runs: ``web_ui``, else that of the running stack if the runs are on its server."""
        if self.web_ui is not None:
            return self.web_ui.rstrip("/")
        stack = self._stack_of_runs
        return stack.web_ui if stack is not None else None

    def scaled(self, duration: timedelta) -> timedelta:
        """A timeout or retry interval, as ``time_scale`` has it."""
        return duration * self.time_scale

    def temporal_connect_config(self) -> ClientConnectConfig:
        """Arguments for ``Client.connect``: Temporal's environment, else the running stack, else Temporal's defaults.

        Raises ``InvalidInput`` for a profile or file that cannot be used.
        """
        stack = self._stack_of_runs
        if stack is not None:
            namespace = os.environ.get("TEMPORAL_NAMESPACE") or stack.namespace
            return ClientConnectConfig(target_host=stack.temporal_address, namespace=namespace)
        return connect_config()

    def temporal_connection(self) -> TemporalConnection:
        """What ``temporal_connect_config`` returns, for people, and its source. Raises ``InvalidInput`` like that."""
        config = self.temporal_connect_config()
        address = str(config["target_host"])
        origin = Origin.DEFAULT
        if self._stack_of_runs is not None:
            origin = Origin.STACK
        elif os.environ.get("TEMPORAL_ADDRESS"):
            origin = Origin.ENVIRONMENT
        elif address != DEFAULT_ADDRESS:
            origin = Origin.FILE
        return TemporalConnection(
            address,
            str(config.get("namespace") or "default"),
            os.environ.get("TEMPORAL_PROFILE"),
            bool(config.get("tls")),
            bool(config.get("api_key")),
            origin,
        )

    @property
    def _stack_of_runs(self) -> DevInfo | None:
        """The running stack, unless another Temporal server than its own is set."""
        return None if any(os.environ.get(name) for name in _TEMPORAL_CHOICES) else self._stack


_HINT = "Correct the environment; docs and `--help` list every setting."


def variable(field: str) -> str:
    """The environment variable of a field."""
    return PREFIX + field.upper()


def child_environment(values: Mapping[str, str], *, without: tuple[str, ...] = ()) -> dict[str, str]:
    """This process's environment for a child, with ``values`` and without variables that start with ``without``."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith(without)}, **values}


def _from_stack(stack: DevInfo, folder: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a running stack. Its store is taken whole or not at all: no key is sent to another store."""
    values: dict[str, Any] = {"bucket": stack.bucket, "volume_root": stack.volume_root}
    if not any(name in given for name in _STORE_FIELDS):
        values.update({name: getattr(stack, name) for name in _STORE_FIELDS}, settle_sync_dir=Layout(folder).store)
    return values


def _explain(error: ValidationError) -> str:
    """Every wrong variable with what is wrong, in one line; without the value, which may be a secret."""
    return "; ".join(
        f"{variable(str(each['loc'][0]))}: {each['msg']}" if each["loc"] else each["msg"].removeprefix("Value error, ")
        for each in error.errors(include_input=False, include_url=False)
    )


def _warn_of_unknown(settings: type[Settings]) -> None:
    """A misspelled variable would silently leave its setting at the default.

    Only a warning: Kubernetes puts variables of this prefix there by itself for a Service named codehub-storage.
    """
    known = {variable(name) for name in settings.model_fields} | _NOT_SETTINGS
    for name in sorted(set(os.environ) - known):
        if name.startswith(PREFIX):
            close = difflib.get_close_matches(name, known, n=1)
            log.warning("%s is no setting%s", name, f"; did you mean {close[0]}?" if close else "")
