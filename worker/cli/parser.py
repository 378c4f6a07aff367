"""What can be typed, read from the commands. Imports nothing of the service: `--help` and a typing error are quick."""

from __future__ import annotations

import argparse
import importlib
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol, cast

from worker.cli.exits import MEANINGS
from worker.cli.options import Argument
from worker.cli.output import Output

COMMANDS = (
    *("dev", "worker", "init", "adopt", "provision", "archive", "restore", "purge", "cancel", "verify"),
    *("list", "show", "config", "doctor", "version", "completion"),
)
"""In the order of `--help`. Each is a module of ``worker.cli.commands``."""

_FORMER = {
    "status": "`codehub-storage show` shows what runs, `codehub-storage show WORKSPACE_ID` all of one workspace."
}
"""What took the place of a command that is gone."""


class Command(Protocol):
    """What a module of ``worker.cli.commands`` has. ``HELP``: what the command does, in one line.

    It may have ``more_help``, too, which returns the end of its help.
    """

    HELP: str
    ARGUMENTS: Sequence[Argument]

    async def run(self, args: Namespace, output: Output) -> int:
        """Do the work and return the exit status. Raises ``StorageError``."""
        ...


class UsageError(Exception):
    """The command line makes no sense; ``hint`` is the short form of what would."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Parser(ArgumentParser):
    """Raises ``UsageError`` where argparse would print and exit, so that `--json` holds for that too.

    ``more_help`` is asked for the end of the help only when the help is printed.
    """

    def __init__(self, *, more_help: Callable[[], str] = str, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)
        self._more_help = more_help

    def format_help(self) -> str:
        return super().format_help() + self._more_help()

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, self.format_usage().strip())

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            if isinstance(action, argparse._SubParsersAction) and value in _FORMER:
                raise UsageError(str(error), _FORMER[value]) from error
            raise


class _Version(argparse.Action):
    """Asks for the version only when it is printed."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **options)

    def __call__(self, parser: ArgumentParser, *_: object) -> NoReturn:
        from worker.version import service_version

        print(f"codehub-storage {service_version()}")
        parser.exit()
        raise AssertionError("not reached")


def build_parser() -> Parser:
    """The whole command line; a parsed ``run`` is that of the command."""
    parser = Parser(
        prog="codehub-storage",
        description="Moves the homes of workspaces between volumes and archives.",
        epilog=_epilog(),
        parents=[_common()],
    )
    parser.add_argument("--version", action=_Version, help="print the version of the service, and leave")
    parser.set_defaults(json=False, data_dir=None)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    for name in COMMANDS:
        command = cast(Command, importlib.import_module(f"worker.cli.commands.{name}"))
        text = command.HELP
        added = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            parents=[_common()],
            more_help=getattr(command, "more_help", str),
        )
        for names, how in command.ARGUMENTS:
            added.add_argument(*names, **how)
        added.set_defaults(run=command.run)
    return parser


def commands_of(parser: ArgumentParser | None = None) -> dict[str, ArgumentParser]:
    """The parser of each command, by its name."""
    actions = (parser or build_parser())._actions
    return {
        name: command
        for action in actions
        if isinstance(action, argparse._SubParsersAction)
        for name, command in action.choices.items()
    }


def _common() -> Parser:
    """Options that may be before or behind the command. Made for each parser: defaults belong to the action."""
    common = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--json", action="store_true", help="print exactly one JSON object on stdout")
    common.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="folder of the embedded stack (CODEHUB_STORAGE_DATA_DIR)"
    )
    return common


def _epilog() -> str:
    statuses = "\n".join(f"  {status:<9} {meaning}" for status, meaning in MEANINGS.items())
    return (
        f"exit status:\n{statuses}\n\n"
        "The commands find the stack that `dev` runs in the data folder; settings in the environment win.\n"
        "`codehub-storage worker --help` lists every setting."
    )
