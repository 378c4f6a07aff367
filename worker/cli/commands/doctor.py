"""`doctor`: checks all that the service needs where it is called, and prints what to do about what is missing."""

from __future__ import annotations

from argparse import Namespace
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from worker.cli.exits import Exit
from worker.cli.output import Output, one_line

if TYPE_CHECKING:
    from worker.cli.answers import DoctorAnswer
    from worker.settings import Settings

HELP = "check all that the service needs, and say what to do where something is missing"
ARGUMENTS = ()


async def run(args: Namespace, output: Output) -> int:
    """Prints a line for each check."""
    from worker.cli.session import load_settings

    found = await _examine(load_settings(args))
    output.answer(found, _as_text(found))
    output.note(f"{len(found.checks)} checks, {found.fails} failing, {found.warnings} with a warning")
    return exit_for(found)


async def _examine(settings: Settings) -> DoctorAnswer:
    from worker.cli.checks.bucket import BucketChecks
    from worker.cli.checks.machine import machine_checks
    from worker.cli.checks.place import place_checks
    from worker.cli.checks.running import run_all
    from worker.cli.checks.temporal import TemporalChecks
    from worker.cli.checks.volumes import volume_check

    async with AsyncExitStack() as exits:
        store = BucketChecks(settings, exits)
        return await run_all(
            [
                *TemporalChecks(settings).checks(),
                *store.checks(),
                *place_checks(settings, lambda: store.identity),
                volume_check(settings, lambda: store.identity),
                *machine_checks(settings),
            ]
        )


def exit_for(found: DoctorAnswer) -> Exit:
    """0 if nothing fails, 4 if a person has to do something about what does, 3 if waiting may do."""
    failing = [each for each in found.checks if each.state == "fails"]
    if not failing:
        return Exit.DONE
    return Exit.RETRY if all(each.retryable for each in failing) else Exit.OPERATOR


def _as_text(found: DoctorAnswer) -> str:
    states, names = max(len(each.state) for each in found.checks), max(len(each.check) for each in found.checks)
    lines = []
    for each in found.checks:
        lines.append(f"{each.state.value:<{states}}  {each.check:<{names}}  {one_line(each.text)}")
        if each.hint:
            lines.append(f"{'':<{states}}  {'':<{names}}  -> {one_line(each.hint)}")
    return "\n".join(lines)
