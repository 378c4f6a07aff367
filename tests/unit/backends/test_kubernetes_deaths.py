"""What counts as the death of a Pod whose object is gone, on a stub of the API: one machine has one boot."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from activities.backends.kubernetes import death
from activities.backends.kubernetes.client import Api, Cluster, Json
from activities.backends.kubernetes.death import TerminationEvidence
from activities.backends.kubernetes.errors import refused, unreachable
from codehub_storage.errors import StorageError

NODE = "/api/v1/nodes/n1"
CLAIM = "/api/v1/namespaces/homes/persistentvolumeclaims/ws-a-home"
VOLUME = "/api/v1/persistentvolumes/pv1"
DRIVER = "/apis/storage.k8s.io/v1/csidrivers/disks.example"
ATTACHMENTS = "/apis/storage.k8s.io/v1/volumeattachments"
LABELS = {"codehub-storage/uid": "u1", "codehub-storage/workspace": "a"}
POD = {
    "metadata": {"name": "codehub-mover-u1", "uid": "1", "labels": LABELS},
    "spec": {
        "nodeName": "n1",
        "volumes": [{"emptyDir": {}}, {"persistentVolumeClaim": {"claimName": "ws-a-home"}}],
    },
    "status": {"phase": "Running", "containerStatuses": [{"containerID": "c1", "state": {"running": {}}}]},
}


class Told(Api):
    """Answers what it was told; what is an error is raised."""

    def __init__(self) -> None:
        super().__init__(Cluster("homes"))
        self.told: dict[str, Any] = {
            NODE: node(),
            CLAIM: {"metadata": {"name": "ws-a-home", "labels": LABELS}, "spec": {"volumeName": "pv1"}},
            VOLUME: {"spec": {"csi": {"driver": "disks.example", "volumeHandle": "d1"}}},
            DRIVER: {"spec": {"attachRequired": True}},
            ATTACHMENTS: [attachment("pv1", "n1"), attachment("pv2", "n1"), attachment("pv1", "n2")],
        }

    async def get(self, path: str) -> Json | None:
        """What was told, which is one thing."""
        found = self.told.get(path)
        if isinstance(found, StorageError):
            raise found
        return copy.deepcopy(found)

    async def items(self, path: str, **selectors: str) -> list[Json]:
        """What was told, which is a list."""
        found: Any = await self.get(path)
        return list(found)

    def detach(self) -> None:
        """The attachment of the Pod's volume to its node goes."""
        self.told[ATTACHMENTS] = self.told[ATTACHMENTS][1:]


def node(boot: str = "b1", machine: str = "m1", ready: str = "Unknown") -> Json:
    info = {"machineID": machine, "systemUUID": "s1", "bootID": boot}
    return {"status": {"nodeInfo": info, "conditions": [{"type": "Ready", "status": ready}]}}


def attachment(volume: str, on: str) -> Json:
    return {"spec": {"nodeName": on, "source": {"persistentVolumeName": volume}}}


def forbidden(path: str) -> StorageError:
    return refused(path, 403, {"message": "cannot be read", "reason": "Forbidden"})


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Told:
    """The Pod's node does not answer, and its disk is attached."""
    monkeypatch.setattr(death, "_ORPHAN_SECONDS", 0)
    monkeypatch.setattr(death, "_LIST_SECONDS", 0)
    return Told()


async def test_a_ready_node_has_no_orphans(api: Told) -> None:
    """With the kubelet back it is dead; a node that is away, or gone, proves nothing."""
    deaths = TerminationEvidence(api)
    for found, dead in ((node(), False), (None, False), (node(ready="True"), True)):
        api.told[NODE] = found
        assert await deaths.is_dead(POD) is dead


async def test_another_boot_of_the_machine(api: Told) -> None:
    """What ran before the machine was started anew runs no more, though the node be not ready yet."""
    deaths = TerminationEvidence(api)
    await deaths.note(POD)
    assert not await deaths.is_dead(POD)
    api.told[NODE] = node("b2")
    assert await deaths.is_dead(POD)


async def test_a_boot_that_was_not_noted(api: Told) -> None:
    """A worker that was restarted, or may not look at nodes, has nothing to compare with."""
    deaths = TerminationEvidence(api)
    api.told[NODE] = forbidden(NODE)
    await deaths.note(POD)
    api.told[NODE] = unreachable(NODE, OSError())
    await deaths.note(POD)
    api.told[NODE] = node("b2")
    assert not await deaths.is_dead(POD)


async def test_a_boot_belongs_to_one_container(api: Told) -> None:
    """A kubelet that lost its containers with the boot starts the Pod's again: that one runs in the new boot."""
    deaths, again = TerminationEvidence(api), copy.deepcopy(POD)
    again["status"]["containerStatuses"][0]["containerID"] = "c2"  # type: ignore[index]
    await deaths.note(POD)
    api.told[NODE] = node("b2")
    assert not await deaths.is_dead(again)


async def test_another_machine_of_the_node_s_name(api: Told) -> None:
    """It proves nothing of the one that the Pod ran on, however well it is."""
    deaths = TerminationEvidence(api)
    await deaths.note(POD)
    for ready in ("Unknown", "True"):
        api.told[NODE] = node("b2", "m2", ready)
        assert not await deaths.is_dead(POD)


async def test_a_detached_disk(api: Told) -> None:
    """Out of reach once the attachment is gone, whatever became of node and process; others' say nothing."""
    deaths = TerminationEvidence(api)
    for found in (node(), None, forbidden(NODE)):
        api.told[NODE] = found
        assert not await deaths.is_dead(POD)
    api.detach()
    for found in (node(), None, forbidden(NODE)):
        api.told[NODE] = found
        assert await deaths.is_dead(POD)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (CLAIM, None),
        (CLAIM, {"metadata": {"name": "ws-a-home", "labels": {}}, "spec": {"volumeName": "pv1"}}),
        (CLAIM, {"metadata": {"labels": {**LABELS, "codehub-storage/uid": "u2"}}, "spec": {"volumeName": "pv1"}}),
        (CLAIM, {"metadata": {"labels": LABELS}, "spec": {}}),
        (VOLUME, None),
        (VOLUME, {"spec": {"nfs": {"server": "n"}}}),
        (VOLUME, forbidden(VOLUME)),
        (DRIVER, None),
        (DRIVER, {"spec": {"attachRequired": False}}),
        (DRIVER, {"spec": {}}),
        (DRIVER, forbidden(DRIVER)),
        (ATTACHMENTS, forbidden(ATTACHMENTS)),
    ],
)
async def test_no_attachment_is_no_evidence(api: Told, path: str, found: Any) -> None:
    """Of a driver that has none, of a claim that is not the Pod's, or where it may not be looked at."""
    api.detach()
    api.told[path] = found
    assert not await TerminationEvidence(api).is_dead(POD)


async def test_a_pod_that_never_ran_had_no_attachment_yet(api: Told) -> None:
    """Its container may still be made, by a kubelet that nobody hears."""
    api.detach()
    starting = {**POD, "status": {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {}}}]}}
    assert not await TerminationEvidence(api).is_dead(starting)


async def test_an_api_server_that_does_not_answer(api: Told) -> None:
    """An error, neither death nor life."""
    api.told[ATTACHMENTS] = unreachable(ATTACHMENTS, OSError())
    with pytest.raises(StorageError, match="does not answer"):
        await TerminationEvidence(api).is_dead(POD)
