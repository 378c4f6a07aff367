"""`doctor`: checks all that the service needs where it is called, and says what to do about what is missing."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from contextlib import AsyncExitStack

from worker.cli.answers import CheckAnswer, DoctorAnswer
from worker.cli.checks.bucket import BucketChecks
from worker.cli.checks.machine import machine_checks
from worker.cli.checks.place import place_checks
from worker.cli.checks.running import Outcome, Verdict, run_all
from worker.cli.checks.temporal import TemporalChecks
from worker.cli.checks.volumes import volume_check
from worker.cli.exits import Exit
from worker.cli.output import Output, one_line
from worker.cli.session import load_settings
from worker.settings import Settings

_STATE_WIDTH = max(map(len, Verdict))


async def doctor(args: Namespace, output: Output) -> int:
    """`doctor`"""
    outcomes = await examine(load_settings(args))
    answer = _answer(outcomes)
    output.answer(answer.model_dump(mode="json"), _as_text(outcomes))
    output.note(f"{len(outcomes)} checks, {answer.fails} failing, {answer.warnings} with a warning")
    return exit_for(outcomes)


async def examine(settings: Settings) -> list[Outcome]:
    """All checks."""
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


def exit_for(outcomes: Sequence[Outcome]) -> Exit:
    """0 if nothing fails, 4 if a person has to do something about what does, 3 if waiting may do."""
    failing = [each.finding for each in outcomes if each.finding.verdict is Verdict.FAILS]
    if not failing:
        return Exit.DONE
    return Exit.RETRY if all(each.retryable for each in failing) else Exit.OPERATOR


def _answer(outcomes: Sequence[Outcome]) -> DoctorAnswer:
    verdicts = [each.finding.verdict for each in outcomes]
    return DoctorAnswer(
        checks=[
            CheckAnswer(
                check=name,
                state=finding.verdict.value,
                text=finding.text,
                hint=finding.hint,
                retryable=finding.retryable,
                seconds=seconds,
            )
            for name, finding, seconds in outcomes
        ],
        fails=verdicts.count(Verdict.FAILS),
        warnings=verdicts.count(Verdict.WARNING),
    )


def _as_text(outcomes: Sequence[Outcome]) -> str:
    width = max(len(each.name) for each in outcomes)
    lines = []
    for name, finding, _ in outcomes:
        lines.append(f"{finding.verdict.value:<{_STATE_WIDTH}}  {name:<{width}}  {one_line(finding.text)}")
        if finding.hint:
            lines.append(f"{'':<{_STATE_WIDTH}}  {'':<{width}}  -> {one_line(finding.hint)}")
    return "\n".join(lines)
