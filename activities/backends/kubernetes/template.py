"""What operators may set for the Pods of movers: a closed list, read at start-up, with our own fields put on last.

Operators decide where movers run, and with what resources. What movers run, as which user and with which rights, is
ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml  # type: ignore[import-untyped]  # published without types
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from codehub_storage.errors import ErrorCode, StorageError

OURS = "codehub-storage/"
CA_FOLDER = "/etc/codehub-storage/ca"
"""Where ``ca_config_map`` is mounted."""
_PROXY = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"})

Name = Annotated[str, StringConstraints(min_length=1, max_length=253)]


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class PullSecret(_Closed):
    """A Secret of the namespace that holds the credentials of an image registry."""

    name: Name


class Resources(_Closed):
    """As in a Pod. Memory is said once: request and limit of a mover are equal."""

    requests: dict[str, str] = Field(default_factory=dict)
    limits: dict[str, str] = Field(default_factory=dict)


class PodTemplate(_Closed):
    """Each as in a Pod's own specification, except for the last two.

    ``env``: proxy variables only. ``ca_config_map``: a ConfigMap with certificates, mounted at ``CA_FOLDER``.
    """

    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    node_selector: dict[str, str] = Field(default_factory=dict, alias="nodeSelector")
    affinity: dict[str, Any] = Field(default_factory=dict)
    tolerations: list[dict[str, Any]] = Field(default_factory=list)
    priority_class_name: Name | None = Field(default=None, alias="priorityClassName")
    runtime_class_name: Name | None = Field(default=None, alias="runtimeClassName")
    image_pull_secrets: list[PullSecret] = Field(default_factory=list, alias="imagePullSecrets")
    service_account_name: Name | None = Field(default=None, alias="serviceAccountName")
    resources: Resources = Resources()
    env: dict[str, str] = Field(default_factory=dict)
    ca_config_map: Name | None = Field(default=None, alias="caConfigMap")

    @field_validator("labels", "annotations")
    @classmethod
    def _not_ours(cls, given: dict[str, str]) -> dict[str, str]:
        if any(key.startswith(OURS) for key in given):
            raise ValueError(f"keys that begin with {OURS} are the service's own")
        return given

    @field_validator("env")
    @classmethod
    def _only_proxies(cls, given: dict[str, str]) -> dict[str, str]:
        if not _PROXY.issuperset(given):
            raise ValueError(f"may only hold {', '.join(sorted(_PROXY))}")
        return given


def read_template(path: Path | None) -> PodTemplate:
    """The operators' file, in YAML. ``InvalidInput`` for anything that is not on the list."""
    if path is None:
        return PodTemplate()
    try:
        found = yaml.safe_load(path.read_text())
        return PodTemplate.model_validate(found if found is not None else {})
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise StorageError(
            ErrorCode.INVALID_INPUT,
            f"the Pod template {path}: {_explain(error)}",
            hint="It may hold " + ", ".join(field.alias or name for name, field in PodTemplate.model_fields.items()),
        ) from error


def _explain(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(
        f"{'.'.join(map(str, each['loc']))}: {each['msg']}"
        for each in error.errors(include_input=False, include_url=False)
    )
