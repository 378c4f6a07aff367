"""What the engine says, in our words."""

from __future__ import annotations

import aiodocker
import pytest

from activities.backends.docker.engine import _translated, warnings_of
from codehub_storage.errors import ErrorCode


@pytest.mark.parametrize(
    ("version", "is_warned"), [("20.10.24+dfsg1", True), ("22.06.0-beta.0", True), ("23.0.0", False), ("dev", False)]
)
def test_engines_that_prune_named_volumes_are_warned_of(version: str, is_warned: bool) -> None:
    """Up to 22 a plain `volume prune` takes homes."""
    assert bool(warnings_of({"ServerVersion": version})) is is_warned


def test_remapped_users_are_warned_of() -> None:
    """By the engine's own list of security options."""
    [warning] = warnings_of(
        {"ServerVersion": "28.0.1", "SecurityOptions": ["name=seccomp,profile=builtin", "name=userns"]}
    )
    assert "remapped" in warning


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (500, "mkdir /x: no space left on device", ErrorCode.NO_SPACE),
        (500, "write /x: Disk quota exceeded", ErrorCode.NO_SPACE),
        (403, "authorization denied by plugin", ErrorCode.ACCESS_DENIED),
        (500, "remove ws_x_home: unlinkat /x: operation not permitted", ErrorCode.ACCESS_DENIED),
        (400, 'invalid option: "sizes"', ErrorCode.UNSUPPORTED),
        (900, "Cannot connect to Docker Engine", ErrorCode.BACKEND_UNAVAILABLE),
        (500, "context deadline exceeded", ErrorCode.BACKEND_UNAVAILABLE),
    ],
)
def test_each_answer_has_its_code(status: int, message: str, code: ErrorCode) -> None:
    """What passes is retried; what does not is said."""
    error = _translated(aiodocker.DockerError(status, message), "volume x")
    assert error.code is code
    assert message in error.message
