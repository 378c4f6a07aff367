"""The commands as programs: started as an operator does, and what they print with `--json` held against its schema."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from tests.harness.site import Site
from worker.cli.answers import ANSWERS, COMMON
from worker.cli.parser import build_parser, commands_of


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str
    command: str = ""

    def object(self) -> dict[str, Any]:
        """The one object on stdout, which is as docs/json.md says."""
        assert self.out.count("\n") == 1, self
        found = json.loads(self.out)
        assert isinstance(found, dict)
        check_answer(self.command, found)
        return found


def check_answer(command: str, found: dict[str, Any]) -> None:
    """One of the command's models takes it whole: no key more, none that the model would not print."""
    why = []
    for model in (*ANSWERS.get(command, ()), *COMMON):
        try:
            taken = model.model_validate(found).model_dump(mode="json")
        except ValidationError as error:
            why.append(f"{model.__name__}: {error}")
            continue
        if taken == found:
            return
        why.append(f"{model.__name__}: {set(found) ^ set(taken) or taken}")
    raise AssertionError(f"{command} answers {found}\n" + "\n".join(why))


def typed(hint: str) -> list[str]:
    """The commands that a hint tells somebody to type. Each can be typed as it stands, and none is half of one."""
    quoted = re.findall(r"`([^`]+)`", hint)
    assert not [each for each in quoted if each.startswith("-")], hint
    commands = [each for each in quoted if each.startswith("codehub-storage ")]
    for each in commands:
        assert not re.search(r"\b[A-Z]+_[A-Z_]*[A-Z]\b", each), hint
        build_parser().parse_args(shlex.split(each)[1:])
    return commands


def named(arguments: Sequence[str]) -> str:
    """The command among the arguments; empty where there is none."""
    return next((each for each in arguments if each in commands_of()), "")


@asynccontextmanager
async def running(environment: dict[str, str], *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A command while it runs; killed at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker.cli.main", *arguments),
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def end_of(process: asyncio.subprocess.Process, command: str = "") -> Done:
    """Wait for the end."""
    out, err = await process.communicate()
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode(), command)


async def cli(site: Site, *arguments: str, **environment: str) -> Done:
    """Run a command to its end, told of the site by its environment."""
    async with running({**site.environment, **environment}, *arguments) as process:
        return await end_of(process, named(arguments))
