"""What can be typed. Imports nothing of the service: `--help` and a typing error answer at once."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from worker.cli.exits import MEANINGS

STATES = ("warm", "cold", "both", "moving", "unfinished", "unproven", "lost", "empty", "unknown")
"""Of workspaces, as ``answers.State`` explains them."""


class UsageError(Exception):
    """The command line makes no sense; ``usage`` is the short form of what would."""

    def __init__(self, message: str, usage: str) -> None:
        super().__init__(message)
        self.usage = usage


class Parser(argparse.ArgumentParser):
    """Raises ``UsageError`` where argparse would print and exit, so that `--json` holds for that too.

    ``more_help`` is asked for the end of the help only when somebody wants to read it.
    """

    def __init__(self, *, more_help: Callable[[], str] = str, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)
        self._more_help = more_help

    def format_help(self) -> str:
        return super().format_help() + self._more_help()

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, self.format_usage().strip())


class _Version(argparse.Action):
    """Asks for the version only when somebody wants it."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"codehub-storage {version('codehub-storage-service')}")
        parser.exit()
        raise AssertionError("not reached")


def build_parser() -> Parser:
    """The whole command line; a parsed ``command`` names the handler, as ``module:function``."""
    parser = Parser(
        prog="codehub-storage",
        description="Moves the homes of workspaces between volumes and archives.",
        epilog=_epilog(),
        parents=[_common()],
    )
    parser.add_argument("--version", action=_Version, help="print the version of the service, and leave")
    parser.set_defaults(json=False, data_dir=None)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)

    def add(name: str, module: str, text: str, *, function: str = "", **options: Any) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = commands.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", parents=[_common()], **options
        )
        command.set_defaults(command=f"worker.cli.{module}:{function or name}")
        return command

    dev = add("dev", "processes", "run Temporal, SeaweedFS and a worker in one folder, until Ctrl-C")
    dev.add_argument(
        "--reset", action="store_true", help="begin with nothing: remove volumes and archives of this stack"
    )
    add("worker", "processes", "serve the volume place that the settings name, until SIGTERM", more_help=_settings)
    init = add("init", "processes", "mark bucket and volume place as belonging together, once")
    init.add_argument(
        "--adopt", action="store_true", help="although something is in them already, or the bucket is a copy of another"
    )
    taken = add("adopt", "processes", "take over a volume of before us, or of before the bucket was copied, as it is")
    taken.add_argument("home_store_key", metavar="HOME_STORE_KEY", help="such as ws_WORKSPACE_home")

    provision = add("provision", "operations", "make a new, empty volume; prints its home_store_key")
    provision.add_argument("workspace_id", metavar="WORKSPACE_ID")
    archive = add("archive", "operations", "volume to proven archive, then delete the volume; prints the archive_key")
    archive.add_argument("home_store_key", metavar="HOME_STORE_KEY", help="such as ws_WORKSPACE_home")
    restore = add("restore", "operations", "archive to new volume; prints its home_store_key")
    restore.add_argument("archive_key", metavar="ARCHIVE_KEY", help="such as WORKSPACE/home.tar.gz")
    restore.add_argument("--archive-id", metavar="ID", help="a kept older version instead of the current one")
    purge = add("purge", "operations", "remove volume, archive or both; missing is fine, what is not named stays")
    purge.add_argument("--volume", metavar="KEY", help="the home_store_key")
    purge.add_argument("--archive", metavar="KEY", help="the archive_key")
    cancel = add("cancel", "operations", "stop a workspace's operation and undo it; prints cancelled or too_late")
    cancel.add_argument("workspace_id", metavar="WORKSPACE_ID")
    for command in (provision, restore):
        command.add_argument("--size-bytes", type=int, metavar="N", help="size of the new volume")
        command.add_argument("--storage-class", metavar="NAME", help="class of the new volume")
    for command in (archive, purge):
        command.add_argument("--expected-volume-uid", metavar="UID", help="refuse if the volume is another one by now")
        command.add_argument(
            "--remove-stopped", action="store_true", help="remove what holds the volume without running"
        )
    for command in (provision, restore, purge):
        command.add_argument("--accept-loss", metavar="UID", help="go on without this volume, which is lost")
    for command in (restore, purge):
        command.add_argument(
            "--old-place-is-dead", action="store_true", help="nothing runs any more where the workspace was before"
        )
    for command in (provision, archive, restore, purge, cancel):
        command.add_argument("--place", metavar="NAME", help="where the workspace lives (default: the setting)")
    for command in (provision, archive, restore, purge):
        command.add_argument("--no-wait", action="store_true", help="start it, print the run id, and leave")

    verify = add("verify", "verify", "read an archive whole and compare every byte with its proof")
    verify.add_argument("archive_key", metavar="ARCHIVE_KEY")
    verify.add_argument("--archive-id", metavar="ID", help="a kept older version instead of the current one")
    verify.add_argument(
        "--write-manifest", action="store_true", help="where the proof is missing: write it, if the archive is whole"
    )
    status = add("status", "status", "what runs and what ran; with a workspace: all that is known of it")
    status.add_argument("workspace_id", metavar="WORKSPACE_ID", nargs="?")
    status.add_argument("--limit", type=int, default=20, metavar="N", help="ended operations listed (default: 20)")
    listed = add("list", "workspaces", "every workspace: state, archive, last operation", function="list_workspaces")
    listed.add_argument("--state", action="append", choices=STATES, help="only these; may be said several times")
    listed.add_argument("--limit", type=int, metavar="N", help="so many workspaces at most (default: all)")
    show = add("show", "showing", "one workspace: record, manifest, volume, kept archives, last runs")
    show.add_argument("workspace_id", metavar="WORKSPACE_ID")
    show.add_argument("--limit", type=int, default=10, metavar="N", help="runs shown (default: 10)")

    add("config", "configuration", "every setting in force, and where it comes from")
    add("doctor", "doctor", "check all that the service needs, and say what to do where something is missing")
    add("version", "versions", "versions of the service, of Python, and of the servers that answer")
    completion = add("completion", "completion", "print a completion script for a shell")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    return parser


def commands_of(parser: argparse.ArgumentParser | None = None) -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, by its name."""
    actions = (parser or build_parser())._actions
    return {
        name: command
        for action in actions
        if isinstance(action, argparse._SubParsersAction)
        for name, command in action.choices.items()
    }


def _common() -> Parser:
    """Options that may stand before or behind the command. Made anew for each parser: defaults belong to the action."""
    common = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--json", action="store_true", help="print exactly one JSON object on stdout")
    common.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="folder of the embedded stack (CODEHUB_STORAGE_DATA_DIR)"
    )
    return common


def _settings() -> str:
    from worker.cli.listing import settings_help

    return f"\n{settings_help()}"


def _epilog() -> str:
    statuses = "\n".join(f"  {status:<9} {meaning}" for status, meaning in MEANINGS.items())
    return (
        f"exit status:\n{statuses}\n\n"
        "The commands find the stack that `dev` runs in the data folder; settings in the environment win.\n"
        "`codehub-storage worker --help` lists every setting."
    )
