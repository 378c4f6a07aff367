"""A failpoint before and after every call that leaves this process: to the store, and to the backend.

Wrappers around the two Protocols, so that a new call is a new point by itself and the generated tests meet it.
``role`` names the process (``control``, ``mover``): one environment arms a point in one kind of process only.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import wraps
from typing import Any, cast

from activities.backends.base import VolumeBackend
from activities.objectstore.base import ObjectStore
from activities.runtime import failpoints

ROLES = ("control", "mover")


def _calls(protocol: type) -> list[str]:
    """The methods of a Protocol that are awaited, or return their result piece by piece."""
    members = inspect.getmembers(protocol, inspect.isfunction)
    return [
        name
        for name, member in members
        if not name.startswith("_") and (inspect.iscoroutinefunction(member) or _is_stream(member))
    ]


def _is_stream(call: Callable[..., Any]) -> bool:
    return inspect.isasyncgenfunction(call) or str(inspect.signature(call).return_annotation).startswith("AsyncIter")


_STORE_CALLS = frozenset(_calls(ObjectStore))
_BACKEND_CALLS = frozenset(_calls(VolumeBackend))

for _role in ROLES:
    for _call in sorted(_STORE_CALLS):
        failpoints.declare(f"{_role}.store.{_call}.before", effect=f"the {_role} process is about to call {_call}")
        failpoints.declare(f"{_role}.store.{_call}.after", effect=f"the store has answered {_call}")
for _call in sorted(_BACKEND_CALLS):
    failpoints.declare(f"control.backend.{_call}.before", effect=f"the control process is about to call {_call}")
    failpoints.declare(f"control.backend.{_call}.after", effect=f"the backend has done {_call}")


class _FailpointWrapper:
    """Passes everything on, with a point before and after each of ``calls``."""

    def __init__(self, inner: object, prefix: str, calls: frozenset[str]) -> None:
        self._inner = inner
        self._prefix = prefix
        self._calls = calls

        # The methods are real ones here as well: from Python 3.12 on a Protocol asks for them, not `__getattr__`.
        for name, static in inspect.getmembers_static(type(inner), inspect.isroutine):
            if not name.startswith("_") and not isinstance(static, classmethod):
                self.__dict__[name] = self._wrapped(name)

    def __getattr__(self, name: str) -> Any:
        return self._wrapped(name)

    def _wrapped(self, name: str) -> Any:
        member = getattr(self._inner, name)
        if name not in self._calls:
            return member
        around = self._around if _is_stream(member) else self._between
        return around(member, f"{self._prefix}.{name}")

    def _between(self, call: Callable[..., Awaitable[Any]], name: str) -> Callable[..., Awaitable[Any]]:
        @wraps(call)
        async def pointed(*args: Any, **kwargs: Any) -> Any:
            await failpoints.reach(f"{name}.before")
            answer = await call(*args, **kwargs)
            await failpoints.reach(f"{name}.after")
            return answer

        return pointed

    def _around(self, call: Callable[..., Any], name: str) -> Callable[..., AsyncIterator[Any]]:
        """Before the first piece, and behind the last one where the reader gets that far."""

        @wraps(call)
        async def pointed(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            await failpoints.reach(f"{name}.before")
            async with aclosing(call(*args, **kwargs)) as pieces:
                async for piece in pieces:
                    yield piece
            await failpoints.reach(f"{name}.after")

        return pointed


def store_with_failpoints(store: ObjectStore, role: str) -> ObjectStore:
    """The store with its points."""
    return cast(ObjectStore, _FailpointWrapper(store, f"{role}.store", _STORE_CALLS))


def backend_with_failpoints(backend: VolumeBackend) -> VolumeBackend:
    """The backend with its points; only the control worker has one."""
    return cast(VolumeBackend, _FailpointWrapper(backend, "control.backend", _BACKEND_CALLS))
