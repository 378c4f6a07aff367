"""The stubs that workflows call say the same as the activities that do the work."""

from __future__ import annotations

import inspect
import json
import typing
from pathlib import Path

import pytest
from temporalio import activity

from activities.control.archive_object import ArchiveObjectActivities
from activities.control.claim import ClaimActivities
from activities.control.inspection import InspectionActivities
from activities.control.lease import LeaseActivities
from activities.control.purge import PurgeActivities
from activities.control.volumes import VolumeActivities
from activities.mover.archive import ArchiveActivities
from activities.mover.restore import RestoreActivities
from tests.golden import protocol
from workflows import steps
from workflows.messages import MOVER_PROTOCOL

ROOT = Path(__file__).parents[2]
CLASSES = (
    ArchiveObjectActivities,
    RestoreActivities,
    InspectionActivities,
    LeaseActivities,
    ArchiveActivities,
    PurgeActivities,
    ClaimActivities,
    VolumeActivities,
)


def _defined(container: object) -> dict[str, typing.Callable[..., object]]:
    """Activities by their name on the wire."""
    found: dict[str, typing.Callable[..., object]] = {}
    for _, member in inspect.getmembers(container, inspect.isfunction):
        definition = activity._Definition.from_callable(member)
        if definition is not None and definition.name is not None:
            found[definition.name] = member
    return found


STUBS = _defined(steps)
BODIES = {name: body for each in CLASSES for name, body in _defined(each).items()}


def test_every_stub_has_a_body_and_every_body_a_stub() -> None:
    """The two lists of names are the same."""
    assert set(STUBS) == set(BODIES)


@pytest.mark.parametrize("name", sorted(STUBS))
def test_stub_and_body_take_and_answer_the_same(name: str) -> None:
    """Input and result types agree, so a payload that one writes the other reads."""
    stub, body = typing.get_type_hints(STUBS[name]), typing.get_type_hints(BODIES[name])
    assert stub["step"] is body["step"]
    assert stub["return"] == body["return"]


@pytest.mark.parametrize("name", sorted(STUBS))
def test_a_stub_names_the_file_of_its_body(name: str) -> None:
    """What a step returns stands there, and only there."""
    _, _, named = (STUBS[name].__doc__ or "").partition("Body: ")
    assert ROOT / named.strip() == Path(inspect.getfile(BODIES[name]))


@pytest.mark.field("O1")
def test_other_steps_or_messages_of_movers_are_another_protocol() -> None:
    """Else a worker adopts a mover that does not know what it will be asked for. See tests/golden/protocol.py."""
    golden = json.loads(protocol.FILE.read_text())
    assert golden.get(str(MOVER_PROTOCOL)) == protocol.spoken()
