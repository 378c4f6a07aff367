"""Would the cluster admit a mover: asked once, as a worker starts, by a creation that is not carried out.

Admission treats it like a real one: the level of PodSecurity, priority class and service account, limits, webhooks,
our own right to create. What only a node finds out (image, Secret, room) is reported when a mover starts.
"""

from __future__ import annotations

import logging

from activities.backends.base import MoverSpec
from activities.backends.kubernetes.client import Api
from activities.backends.kubernetes.namespace import claim_name
from activities.backends.kubernetes.pods import PodShape, check_as_asked, mover_pod
from codehub_storage.errors import StorageError

log = logging.getLogger(__name__)

_SPEC = MoverSpec("start-up", "start-up", "start-up", "mover/start-up/1", writable=True)
"""Of no workspace. A mover that writes has all the rights that any of our Pods has."""


class Admission:
    """See the module."""

    def __init__(self, api: Api, shape: PodShape) -> None:
        self._api = api
        self._shape = shape
        self._is_settled = False

    async def check(self) -> None:
        """Raise what a person must repair, each time until it is repaired. What passes by itself, such as a quota, is a
        warning."""
        if self._is_settled:
            return
        asked = mover_pod(self._shape, _SPEC, claim_name(_SPEC.workspace_id))
        try:
            check_as_asked(asked, await self._api.create(self._api.path("pods"), asked, dry_run=True))
        except StorageError as error:
            if not error.transient:
                raise
            log.warning(
                "namespace %s would not take a mover now: %s (%s)", self._api.cluster.namespace, error, error.hint
            )
        self._is_settled = True
