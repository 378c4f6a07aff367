"""What the worker's account must be allowed to do, as deploy/kubernetes grants it; and what of it is missing.

Asked of the API server, which knows every role that is bound. Nothing is done to find out.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from activities.backends.kubernetes.client import Api, Json


class Right(NamedTuple):
    """One verb on one kind of thing. ``everywhere``: outside of namespaces."""

    verb: str
    resource: str
    group: str = ""
    everywhere: bool = False

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}" + (f".{self.group}" if self.group else "")

    def attributes(self, namespace: str) -> Json:
        """As a review asks for it. The namespace itself is asked for by its name."""
        resource, _, part = self.resource.partition("/")
        return {
            "verb": self.verb,
            "group": self.group,
            "resource": resource,
            "subresource": part,
            "namespace": "" if self.everywhere else namespace,
            "name": namespace if resource == "namespaces" else "",
        }


NEEDED = (
    Right("get", "namespaces"),
    *(Right(verb, kind) for kind in ("persistentvolumeclaims", "pods") for verb in ("get", "list", "create", "delete")),
    Right("get", "pods/log"),
    Right("list", "events"),
)
"""Without one of these no operation ends."""

HELPFUL = (
    Right("get", "persistentvolumes", everywhere=True),
    Right("get", "nodes", everywhere=True),
    Right("get", "csidrivers", "storage.k8s.io", everywhere=True),
    Right("get", "storageclasses", "storage.k8s.io", everywhere=True),
    Right("list", "volumeattachments", "storage.k8s.io", everywhere=True),
)
"""Without these a wrong storage class is named later, and a Pod on a lost node counts as alive."""


async def missing(api: Api, rights: tuple[Right, ...]) -> list[Right]:
    """Those of ``rights`` that our account does not have."""
    found = await asyncio.gather(*(api.may(right.attributes(api.cluster.namespace)) for right in rights))
    return [right for right, allowed in zip(rights, found, strict=True) if not allowed]
