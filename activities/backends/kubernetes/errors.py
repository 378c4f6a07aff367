"""What the API server refuses, as the codes of this service; translated here and nowhere else.

403, 409 and 422 each mean several things, so the message is read, as people would.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from codehub_storage.errors import ErrorCode, StorageError


class Refused(StorageError):
    """The API server refused. ``reason`` is Kubernetes' own word for it."""

    def __init__(self, code: ErrorCode, message: str, *, status: int, reason: str, hint: str | None = None) -> None:
        super().__init__(code, message, hint=hint)
        self.status = status
        self.reason = reason

    @property
    def is_taken(self) -> bool:
        """True if something of that name exists, or is still being deleted."""
        return self.status == HTTPStatus.CONFLICT and self.reason == "AlreadyExists"

    @property
    def is_outdated(self) -> bool:
        """True if a precondition did not hold: another uid, or another resourceVersion by now."""
        return self.status == HTTPStatus.CONFLICT and self.reason == "Conflict"

    @property
    def is_forbidden(self) -> bool:
        """True if our rights, a quota or an admission plugin forbid it."""
        return self.status == HTTPStatus.FORBIDDEN


class _Rule(NamedTuple):
    words: str
    code: ErrorCode
    hint: str | None = None


_BASELINE = (
    "Movers run as root with a few capabilities: the namespace must allow PodSecurity level `baseline` "
    "(label pod-security.kubernetes.io/enforce)."
)

_FORBIDDEN = (
    _Rule("exceeded quota", ErrorCode.BACKEND_UNAVAILABLE, "Raise the quota that is named, or wait until it has room."),
    _Rule("usage per PersistentVolumeClaim", ErrorCode.INVALID_INPUT, "The namespace's LimitRange bounds the size."),
    _Rule("violates PodSecurity", ErrorCode.ACCESS_DENIED, _BASELINE),
    _Rule("no PriorityClass", ErrorCode.UNSUPPORTED, "Correct the Pod template of the movers."),
    _Rule("error looking up service account", ErrorCode.UNSUPPORTED, "Correct the Pod template of the movers."),
    _Rule("usage per Container", ErrorCode.UNSUPPORTED, "The namespace's LimitRange bounds the movers' resources."),
    _Rule("usage per Pod", ErrorCode.UNSUPPORTED, "The namespace's LimitRange bounds the movers' resources."),
)
_RIGHTS = "Grant the rights of deploy/kubernetes to the worker's account."


def refused(what: str, status: int, body: Mapping[str, Any]) -> Refused:
    """The error for a response of the API server. ``what``: what was tried, as the message begins."""
    message, reason = str(body.get("message") or ""), str(body.get("reason") or "")
    code, hint = _code(status, message, str((body.get("details") or {}).get("kind") or ""))
    return Refused(code, f"{what}: {message or f'status {status}'}", status=status, reason=reason, hint=hint)


def _code(status: int, message: str, kind: str) -> tuple[ErrorCode, str | None]:
    match status:
        case HTTPStatus.FORBIDDEN:
            for rule in _FORBIDDEN:
                if rule.words in message:
                    return rule.code, rule.hint
            return ErrorCode.ACCESS_DENIED, None if "admission webhook" in message else _RIGHTS
        case HTTPStatus.UNAUTHORIZED:
            return ErrorCode.ACCESS_DENIED, "The credentials of the worker are no longer known to the cluster."
        case HTTPStatus.NOT_FOUND:
            return ErrorCode.WRONG_STORE, None
        case HTTPStatus.CONFLICT:
            return ErrorCode.VOLUME_CONFLICT, None
        case HTTPStatus.UNPROCESSABLE_ENTITY if kind == "PersistentVolumeClaim":
            return ErrorCode.INVALID_INPUT, None
        case HTTPStatus.BAD_REQUEST | HTTPStatus.UNPROCESSABLE_ENTITY:
            return ErrorCode.ACCESS_DENIED if "admission webhook" in message else ErrorCode.UNSUPPORTED, None
    return ErrorCode.BACKEND_UNAVAILABLE, None


def unreachable(what: str, error: BaseException) -> StorageError:
    """The error for an API server that does not respond."""
    return StorageError(ErrorCode.BACKEND_UNAVAILABLE, f"{what}: the Kubernetes API server does not answer ({error!r})")
