"""How a bucket is configured, as far as it can take away what this service relies on: versions, lifecycle, lock.

Read-only. A server that does not know one of these counts as if it had none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from activities.objectstore.client import Connection
from activities.objectstore.errors import store_code
from codehub_storage.errors import ErrorCode, StorageError

_NO_LIFECYCLE = frozenset({"NoSuchLifecycleConfiguration", "404"})
_NO_LOCK = frozenset({"ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration", "404"})


@dataclass(frozen=True)
class LifecycleRule:
    """One enabled rule. ``actions``: what it does to the objects that it applies to, such as ``Expiration``."""

    name: str
    prefix: str
    is_narrowed: bool
    actions: Mapping[str, Mapping[str, Any]]

    def reaches_any(self, prefixes: re.Pattern[str]) -> bool:
        """True if it may apply to a key that begins like one of ``prefixes``. Objects of ours have no tags: a rule for
        some tag spares them."""
        return not self.is_narrowed and (not self.prefix or prefixes.fullmatch(self.prefix) is not None)


@dataclass(frozen=True)
class ObjectLock:
    """``mode`` and ``period`` of what is put without a word on retention; empty where it is not retained."""

    mode: str = ""
    period: str = ""


async def versioning(connection: Connection) -> str:
    """``Enabled``, ``Suspended``, or empty for a bucket that never kept versions."""
    return str((await connection.call("get_bucket_versioning")).get("Status", ""))


async def lifecycle_rules(connection: Connection) -> list[LifecycleRule]:
    """The rules that are enabled."""
    answer = await _configured(connection, "get_bucket_lifecycle_configuration", _NO_LIFECYCLE)
    return [_rule(each) for each in answer.get("Rules", ()) if each.get("Status") == "Enabled"]


async def has_keys(connection: Connection, prefix: str) -> bool:
    """True if there is an object below ``prefix``."""
    return bool((await connection.call("list_objects_v2", Prefix=prefix, MaxKeys=1)).get("Contents"))


async def object_lock(connection: Connection) -> ObjectLock | None:
    """``None`` for a bucket without it."""
    answer = await _configured(connection, "get_object_lock_configuration", _NO_LOCK)
    found = answer.get("ObjectLockConfiguration", {})
    if found.get("ObjectLockEnabled") != "Enabled":
        return None
    kept = found.get("Rule", {}).get("DefaultRetention", {})
    spans = [f"{kept[unit]} {unit.lower()}" for unit in ("Days", "Years") if kept.get(unit)]
    return ObjectLock(str(kept.get("Mode", "")), ", ".join(spans)) if spans else ObjectLock()


async def server(connection: Connection) -> str:
    """What the server calls itself; empty if it gives no name."""
    answer = await connection.call("head_bucket")
    return str(answer["ResponseMetadata"].get("HTTPHeaders", {}).get("server", ""))


async def _configured(connection: Connection, operation: str, absent: frozenset[str]) -> Mapping[str, Any]:
    try:
        return await connection.call(operation)
    except StorageError as error:
        if store_code(error) in absent or error.code is ErrorCode.UNSUPPORTED:
            return {}
        raise


def _rule(entry: Mapping[str, Any]) -> LifecycleRule:
    chosen = entry.get("Filter") or {}
    both = chosen.get("And") or {}
    prefix = entry.get("Prefix") or chosen.get("Prefix") or both.get("Prefix") or ""
    actions = {
        name: entry[name]
        for name in ("Expiration", "NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload")
        if entry.get(name)
    }
    for name in ("Transitions", "NoncurrentVersionTransitions"):
        if entry.get(name):
            actions[name] = entry[name][0]
    return LifecycleRule(
        str(entry.get("ID") or "without a name"),
        str(prefix),
        bool(chosen.get("Tag") or both.get("Tags")),
        actions,
    )
