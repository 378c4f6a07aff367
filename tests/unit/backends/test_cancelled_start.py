"""A start that is cancelled between its request and the answer leaves no mover: on either kind of container."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from activities.backends.docker.engine import Engine, Facts
from activities.backends.docker.movers import start_named
from activities.backends.kubernetes.client import Api, Cluster, Json
from activities.backends.kubernetes.lifecycle import PodLifecycle, Waits
from activities.backends.wait_policy import WaitPolicy
from codehub_storage.errors import ErrorCode, StorageError

POD: Json = {"metadata": {"name": "mover", "uid": "u1"}, "spec": {}, "status": {"phase": "Pending"}}
CLAIM: Json = {"metadata": {"name": "home", "uid": "c1"}}


class SlowAnswer:
    """What is asked for is there at once, and said when ``answer`` is set."""

    def __init__(self) -> None:
        self.there = asyncio.Event()
        self.answer = asyncio.Event()

    async def cancelled_in_between(self, start: Coroutine[Any, Any, object]) -> None:
        """Start, and cancel before the answer comes."""
        task = asyncio.create_task(start)
        await self.there.wait()
        task.cancel()
        await asyncio.sleep(0)
        self.answer.set()
        with pytest.raises(asyncio.CancelledError):
            await task


class SlowEngine(Engine):
    """An engine of one container."""

    def __init__(self, slow: SlowAnswer, *, refuses: bool = False) -> None:
        super().__init__("unix:///nowhere")
        self._slow = slow
        self._refuses = refuses
        self.asked_to_remove: list[str] = []

    async def create_container(self, name: str, config: Facts) -> str | None:
        self._slow.there.set()
        await self._slow.answer.wait()
        return "c1"

    async def remove(self, container: str) -> None:
        self.asked_to_remove.append(container)
        if self._refuses:
            raise StorageError(ErrorCode.BACKEND_UNAVAILABLE, "the engine does not respond")


class SlowApi(Api):
    """An API server of one Pod."""

    def __init__(self, slow: SlowAnswer) -> None:
        super().__init__(Cluster("homes"))
        self._slow = slow

    async def create(self, path: str, body: Json, *, dry_run: bool = False) -> Json:
        self._slow.there.set()
        await self._slow.answer.wait()
        return POD

    async def get(self, path: str) -> Json | None:
        return POD if self._slow.there.is_set() else None

    async def delete(self, path: str, uid: str) -> bool:
        assert uid == POD["metadata"]["uid"]
        self._slow.there.clear()
        return True


@pytest.mark.parametrize("refuses", [False, True], ids=["removed", "not removed"])
async def test_a_container(refuses: bool) -> None:
    """Where the engine does not remove it, the cancellation is still what is told: the next attempt evicts it."""
    slow = SlowAnswer()
    engine = SlowEngine(slow, refuses=refuses)
    await slow.cancelled_in_between(start_named(engine, "u1", {}))
    assert engine.asked_to_remove == ["c1"]


async def test_a_pod() -> None:
    """It is gone when the cancellation is told."""
    slow = SlowAnswer()
    pods = PodLifecycle(SlowApi(slow), WaitPolicy(), Waits())
    await slow.cancelled_in_between(pods.start(POD, CLAIM))
    assert not slow.there.is_set()
