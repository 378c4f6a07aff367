"""Recorded histories of every operation: today's workflows still follow them, and still command the same in this order.

A history is what released code has commanded. CONTRIBUTING.md says how a workflow changes.
"""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from temporalio import activity, workflow
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner
from temporalio.workflow import NondeterminismError

from codehub_storage.client import connect
from codehub_storage.contracts import OperationResult, ProvisionInput
from codehub_storage.converter import DATA_CONVERTER
from codehub_storage.keys import storage_queue
from tests.fakes.reordered import Reordered
from tests.fakes.steps import Steps
from tests.replay.histories import commands_of, load, names, summary, texts
from tests.replay.scenarios import SCENARIOS
from tests.replay.script import Script
from worker.dev.temporal import TemporalServer
from worker.registration import workflow_options
from workflows import policies, steps
from workflows.messages import StepInput
from workflows.provision import ProvisionWorkflow

HISTORIES = names()
OF_THIS_MACHINE = re.compile(r"/tmp/|/root/|/home/|site-packages|Traceback|secret|access.key", re.IGNORECASE)


def replayer(**changes: Any) -> Replayer:
    """As the worker is set up."""
    return Replayer(data_converter=DATA_CONVERTER, **{**workflow_options(), **changes})


# ------------------------------------------------------------ what was recorded


def test_every_scenario_is_recorded() -> None:
    """A scenario without a history, or a summary without either, would be tested by nobody."""
    assert {name.partition("-")[0] for name in HISTORIES} == set(SCENARIOS)
    assert set(summary()) == set(HISTORIES)


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_is_as_it_was_released(name: str) -> None:
    """Its commands are those of the committed summary: a recording that took the place of another is seen."""
    assert commands_of(load(name)) == summary()[name]


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_tells_nothing_of_where_it_was_made(name: str) -> None:
    """No credential, no folder and no stack, in payloads neither."""
    assert [text for text in texts(load(name)) if OF_THIS_MACHINE.search(text)] == []


def test_every_step_is_in_some_history() -> None:
    """A step that no history holds could be moved unseen. The embedded store's sync is not recorded."""
    recorded = {line.split()[1] for commands in summary().values() for line in commands if line.startswith("activity")}
    defined = {name for name, member in vars(steps).items() if hasattr(member, "__temporal_activity_definition")}
    assert defined - recorded == {"sync_store"}


# ------------------------------------------------------------ the past


@pytest.mark.parametrize("name", HISTORIES)
async def test_todays_workflows_follow_it(name: str) -> None:
    """Replayed with the worker's own options and converter."""
    result = await replayer().replay_workflow(load(name), raise_on_replay_failure=False)
    assert result.replay_failure is None


def _kinds_of(kind: type) -> Iterator[type]:
    below: list[type] = kind.__subclasses__()
    for each in below:
        yield each
        yield from _kinds_of(each)


async def test_a_run_makes_no_message_class_of_its_own() -> None:
    """The sandbox isolates what decides; that each run made these anew was most of what it cost."""
    gc.collect()
    gc.disable()  # what a run has made would be gone with it
    try:
        await replayer().replay_workflow(load("provision_happy"))
        found = [each for each in _kinds_of(BaseModel) if each.__name__ == StepInput.__name__]
    finally:
        gc.enable()
    assert found == [StepInput]


@workflow.defn(name="provision")
class Patched(ProvisionWorkflow):
    """The same as it is to be done."""

    @workflow.init
    def __init__(self, request: ProvisionInput) -> None:
        super().__init__(request)

    @workflow.run
    async def run(self, request: ProvisionInput) -> OperationResult:
        """See the class."""
        if workflow.patched("something-new"):
            await self.run_uncancellable(steps.sync_store, self.input(StepInput), "something new")
        return await ProvisionWorkflow.run(self, request)


async def test_another_order_fails_and_a_patch_does_not() -> None:
    """Replay sees a new command; behind a patch marker it passes."""
    history = load("provision_happy")
    failures = []
    for changed in (Reordered, Patched):
        changes = replayer(workflows=[changed], workflow_runner=UnsandboxedWorkflowRunner())
        failures.append((await changes.replay_workflow(history, raise_on_replay_failure=False)).replay_failure)
    assert isinstance(failures[0], NondeterminismError)
    assert failures[1] is None


# ------------------------------------------------------------ the present


@pytest.fixture
def _in_haste() -> Iterator[None]:
    policies.configure(0.25)
    yield
    policies.configure(1.0)


@pytest.mark.usefixtures("_in_haste")
async def test_todays_workflows_command_the_same(temporal_server: TemporalServer) -> None:
    """Run anew, with steps that answer as they did, each workflow commands what the summary says, in its order.

    This also sees what stands behind a patch marker, where replay follows the old way.
    """
    client = await connect(target_host=temporal_server.address, namespace="default")
    found = {name: Script.of(load(name)) for name in HISTORIES if "-" not in name}
    scripts = {name: script for name, script in found.items() if script.is_repeatable}
    by_workflow = {script.history.workflow_id: script for script in scripts.values()}
    queues = {
        script.history.events[0].workflow_execution_started_event_attributes.task_queue.name
        for script in scripts.values()
    }

    async def answer(info: activity.Info) -> Any:
        return by_workflow[info.workflow_id or ""].answer(info)

    async with Steps(client, answer).serving(*(queue.removeprefix(storage_queue("")) for queue in queues)):
        commands = await asyncio.gather(*(script.run(client) for script in scripts.values()))
    assert dict(zip(scripts, commands, strict=True)) == {name: summary()[name] for name in scripts}
