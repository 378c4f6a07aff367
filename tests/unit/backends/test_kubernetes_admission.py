"""The question whether a mover would be admitted, on a stub of the API; ``tests/k8s`` asks a real one."""

from __future__ import annotations

import contextlib
import copy

import pytest

from activities.backends.containers import MoverImage
from activities.backends.kubernetes.admission import Admission
from activities.backends.kubernetes.client import Api, Cluster, Json
from activities.backends.kubernetes.errors import unreachable
from activities.backends.kubernetes.pods import PodShape
from codehub_storage.errors import ErrorCode, StorageError

SHAPE = PodShape(MoverImage("codehub-storage:1"))


class Admitting(Api):
    """Creates nothing, and answers as it was told."""

    def __init__(self, *, fs_group: int | None = None, error: StorageError | None = None) -> None:
        super().__init__(Cluster("homes"))
        self.calls = 0
        self.error = error
        self._fs_group = fs_group

    async def create(self, path: str, body: Json, *, dry_run: bool = False) -> Json:
        """The Pod as admission would leave it."""
        assert dry_run
        self.calls += 1
        if self.error is not None:
            raise self.error
        made = copy.deepcopy(body)
        if self._fs_group is not None:
            made["spec"]["securityContext"]["fsGroup"] = self._fs_group
        return made


async def test_a_webhook_that_changes_movers() -> None:
    """What would be refused of a real one is refused at the start."""
    with pytest.raises(StorageError, match="fsGroup") as error:
        await Admission(Admitting(fs_group=1000), SHAPE).check()
    assert error.value.code is ErrorCode.UNSUPPORTED


async def test_asked_until_it_is_known(caplog: pytest.LogCaptureFixture) -> None:
    """An answer settles it, and so does a server that gives none; a refusal does not."""
    for error, calls in ((None, 1), (unreachable("POST", OSError()), 1), (StorageError(ErrorCode.UNSUPPORTED, "x"), 2)):
        api = Admitting(error=error)
        admission = Admission(api, SHAPE)
        for _ in range(2):
            with contextlib.suppress(StorageError):
                await admission.check()
        assert api.calls == calls
    assert len(caplog.messages) == 1
