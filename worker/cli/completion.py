"""`completion SHELL`: the script that makes a shell complete this command line, written from the parser."""

from __future__ import annotations

import argparse
from argparse import Namespace

import shtab

from worker.cli.exits import Exit
from worker.cli.output import Output
from worker.cli.parser import build_parser, commands_of


async def completion(args: Namespace, output: Output) -> int:
    """`completion bash|zsh|fish`"""
    script = script_for(args.shell)
    output.answer({"shell": args.shell, "script": script}, script.rstrip("\n"))
    return Exit.DONE


def script_for(shell: str) -> str:
    """The script."""
    parser = build_parser()
    _tell_folders(parser)
    return str(shtab.complete(parser, shell=shell))


def _tell_folders(parser: argparse.ArgumentParser) -> None:
    """Options that take a folder say so, in this parser and in those of its commands."""
    for action in parser._actions:
        if "--data-dir" in action.option_strings:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]  # how shtab is told
    for command in commands_of(parser).values():
        _tell_folders(command)
