"""The bucket: is it the one that `init` marked, may we write, and does its configuration leave archives alone."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import timedelta

from activities.objectstore import bucket
from activities.objectstore.bucket import LifecycleRule
from activities.objectstore.identity import StoreIdentity, probe
from activities.objectstore.s3 import S3Store
from codehub_storage.errors import ErrorCode, StorageError
from worker.cli.answers import Verdict
from worker.cli.bucket import open_marked
from worker.cli.checks.running import Check, Finding, fails, ok, warning
from worker.settings import Origin, Retention, Settings, variable
from worker.store import s3_settings

_CONNECT, _READ = timedelta(seconds=3), timedelta(seconds=10)
_SECONDS, _PROBE_SECONDS = 30.0, 60.0
"""A call is tried twice. The probe races writers and makes an upload, which takes some stores seconds."""
_UPLOAD_DAYS = 2
"""The copy of a large home may take a day."""
_AT_HAND = frozenset(
    {"STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "REDUCED_REDUNDANCY"}
)
"""Storage classes that are read without a wait."""
_OUR_PREFIX = re.compile(r"(archives|\.codehub)(/.*)?|[a-z0-9][-a-z0-9]{0,39}(/(h(o(m(e(\..*)?)?)?)?)?)?")
"""What a key of ours may begin with."""


class BucketChecks:
    """Checks that share one connection, which lives as long as ``exits``."""

    def __init__(self, settings: Settings, exits: AsyncExitStack) -> None:
        self._settings = settings
        self._exits = exits
        self._store: S3Store | None = None
        self.identity: StoreIdentity | None = None

    def checks(self) -> list[Check]:
        """See the module."""
        needs = ("store.bucket",)
        return [
            Check("store.bucket", self._bucket, seconds=_SECONDS),
            Check("store.rights", self._rights, needs, _PROBE_SECONDS),
            Check("store.versioning", self._versioning, needs, _SECONDS),
            Check("store.lifecycle", lambda: _if_allowed(self._lifecycle), needs, _SECONDS),
            Check("store.object-lock", lambda: _if_allowed(self._object_lock), needs, _SECONDS),
        ]

    async def _bucket(self) -> Finding:
        connection = replace(s3_settings(self._settings), connect_timeout=_CONNECT, read_timeout=_READ)
        store, identity = await self._exits.enter_async_context(open_marked(self._settings, connection))
        self._store, self.identity = store, identity
        return ok(f"{store.bucket} at {self._settings.s3_endpoint or 'AWS'} is store {identity.store_id}")

    async def _rights(self) -> Finding:
        """By the probe of `init`, under a key of its own."""
        store = self._opened()
        with suppress(StorageError):
            lock = await bucket.object_lock(store.connection)
            if lock is not None and lock.period:
                return warning(
                    "not tried, since what is written here stays locked", "See `store.object-lock`; rights show in use."
                )
        found = await probe(store)
        assert self.identity is not None, "store.bucket comes first"
        noted = self.identity.capabilities
        lost = [
            name
            for name in ("conditional_delete", "full_object_crc")
            if getattr(noted, name) and not getattr(found, name)
        ]
        if lost:
            return fails(
                f"the store no longer does what `init` noted: {', '.join(lost)}",
                "Run `codehub-storage init` again to note what it does now.",
            )
        return ok("put, get, delete and uploads work; conditional writes are atomic")

    async def _versioning(self) -> Finding:
        return judge_versioning(await bucket.versioning(self._opened().connection), self._settings.retention)

    async def _lifecycle(self) -> Finding:
        connection = self._opened().connection
        rules = await bucket.lifecycle_rules(connection)
        used = [rule.prefix for rule in rules if rule.prefix and await bucket.has_keys(connection, rule.prefix)]
        is_stack = self._settings.origin("s3_endpoint") is Origin.STACK
        keeps = self._settings.retention is Retention.KEEP and await bucket.versioning(connection) == "Enabled"
        return judge_lifecycle(rules, used, keeps_versions=keeps, wants_abort=not is_stack)

    async def _object_lock(self) -> Finding:
        lock = await bucket.object_lock(self._opened().connection)
        if lock is None:
            return ok("the bucket has no object lock")
        if not lock.period:
            return ok("the bucket has object lock, and retains nothing by default")
        return warning(
            f"each version is retained for {lock.period} ({lock.mode})",
            "Until then a purge stays incomplete and replaced archives are not removed; take a bucket without a "
            "default retention unless that is wanted.",
        )

    def _opened(self) -> S3Store:
        assert self._store is not None, "store.bucket comes first"
        return self._store


async def _if_allowed(look: Callable[[], Awaitable[Finding]]) -> Finding:
    """The service itself does well without the right to look at this."""
    try:
        return await look()
    except StorageError as error:
        if error.code is not ErrorCode.ACCESS_DENIED:
            raise
        return warning(f"not known: {error.message}", "Look yourself, or allow these credentials to read it.")


def judge_versioning(status: str, retention: Retention) -> Finding:
    """What ``status`` of the bucket means to this ``retention``."""
    if retention is Retention.KEEP and status != "Enabled":
        how = "are suspended" if status else "are off"
        return fails(
            f"versions {how}, so a replaced archive is gone although {variable('retention')} is keep",
            f"Enable versioning of the bucket, or set {variable('retention')}=none.",
        )
    if retention is Retention.KEEP:
        return ok("versions are on: replaced archives stay restorable by their ids")
    return ok(f"versions are {status.lower() or 'off'}; replaced archives are deleted (retention none)")


def judge_lifecycle(
    rules: Sequence[LifecycleRule], used: Sequence[str], *, keeps_versions: bool, wants_abort: bool
) -> Finding:
    """What the rules do to keys of ours. ``used``: prefixes that keys have now. ``keeps_versions``: older ones count.

    ``wants_abort``: warn if no rule ends uploads that are never completed.
    """
    found: list[Finding] = []
    aborts: list[int] = []
    for rule in rules:
        if not rule.reaches_any(_OUR_PREFIX):
            continue
        harm = _harm(rule, keeps_versions=keeps_versions)
        if harm:
            text, hint = f"rule {rule.name!r} {harm}", "Take our keys out of that rule (a prefix, or a tag)."
            is_real = not rule.prefix or rule.prefix in used
            found.append(fails(text, hint) if is_real else warning(f"{text}, if one of that name comes", hint))
        abort = rule.actions.get("AbortIncompleteMultipartUpload")
        if abort:
            aborts.append(int(abort.get("DaysAfterInitiation", 0)))
    if aborts and min(aborts) < _UPLOAD_DAYS:
        found.append(
            warning(
                f"uploads are aborted after {min(aborts)} day",
                f"Allow at least {_UPLOAD_DAYS} days, or the archive of a large home begins anew each time.",
            )
        )
    if not aborts and wants_abort:
        found.append(
            warning(
                "no rule ends uploads that nobody completes",
                f"Add AbortIncompleteMultipartUpload after {_UPLOAD_DAYS} days or more: parts of a terminated archive "
                "cost until the workspace is archived again.",
            )
        )
    if not found:
        return ok(f"{len(rules)} rules, none of which touches an archive" if rules else "the bucket has no rules")
    worst = next((each for each in found if each.verdict is Verdict.FAILS), found[0])
    return worst._replace(text="; ".join(each.text for each in found), hint=" ".join(_unique(found)))


def _harm(rule: LifecycleRule, *, keeps_versions: bool) -> str:
    """What it does that an archive does not survive; empty if nothing."""
    where = f"of keys below {rule.prefix!r}" if rule.prefix else "of all keys"
    expiration = rule.actions.get("Expiration", {})
    if expiration.get("Days") or expiration.get("Date"):
        return f"deletes objects {where} by age: archives and records with them"
    for name in ("Transitions", "NoncurrentVersionTransitions"):
        storage_class = rule.actions.get(name, {}).get("StorageClass")
        if storage_class and storage_class not in _AT_HAND and (name == "Transitions" or keeps_versions):
            return f"moves objects {where} to {storage_class}, where a restore cannot read them"
    if keeps_versions and rule.actions.get("NoncurrentVersionExpiration"):
        return f"deletes older versions {where}: archives that retention keep promises"
    return ""


def _unique(found: Sequence[Finding]) -> list[str]:
    return list(dict.fromkeys(each.hint for each in found if each.hint))
