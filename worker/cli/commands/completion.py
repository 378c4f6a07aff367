"""`completion SHELL`: the script that makes a shell complete this command line, written from the parser."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from worker.cli.exits import Exit
from worker.cli.options import argument
from worker.cli.output import Output

HELP = "print a completion script for a shell"
ARGUMENTS = (argument("shell", choices=("bash", "zsh", "fish")),)


async def run(args: Namespace, output: Output) -> int:
    """Prints the script."""
    from worker.cli.answers import CompletionAnswer

    script = script_for(args.shell)
    output.answer(CompletionAnswer(shell=args.shell, script=script), script.rstrip("\n"))
    return Exit.DONE


def script_for(shell: str) -> str:
    """The script."""
    import shtab

    from worker.cli.parser import build_parser

    parser = build_parser()
    _tell_folders(parser)
    return str(shtab.complete(parser, shell=shell))


def _tell_folders(parser: ArgumentParser) -> None:
    """Mark the options that take a directory, in this parser and in those of its commands."""
    import shtab

    from worker.cli.parser import commands_of

    for action in parser._actions:
        if "--data-dir" in action.option_strings:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]  # shtab reads this attribute
    for command in commands_of(parser).values():
        _tell_folders(command)
