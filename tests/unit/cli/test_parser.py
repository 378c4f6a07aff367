"""The command line: what it takes, what it imports, how it refuses."""

from __future__ import annotations

import json
import os
import pkgutil
import re
import subprocess
import sys
from importlib.metadata import version
from io import StringIO
from pathlib import Path

import pytest

from codehub_storage.errors import ErrorCode, StorageError
from tests.harness.commands import typed
from worker.cli import commands
from worker.cli.exits import MEANINGS, Exit, exit_of
from worker.cli.main import run
from worker.cli.parser import COMMANDS, UsageError, build_parser, commands_of
from worker.settings import Settings, variable

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs/cli.md"


def test_help_imports_nothing_heavy() -> None:
    """`--help` answers without the SDK, pydantic or any module of the service but the parser's own."""
    script = (
        "import sys\n"
        "from worker.cli.main import run\n"
        "assert run(['archive', '--help']) == 0\n"
        "heavy = {name.partition('.')[0] for name in sys.modules}"
        " & {'temporalio', 'pydantic', 'codehub_storage', 'activities', 'workflows', 'botocore'}\n"
        "sys.exit(', '.join(heavy) or None)\n"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "client")])
    done = subprocess.run([sys.executable, "-c", script], env={"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "HOME_STORE_KEY" in done.stdout


def test_a_command_is_found_by_the_name_of_its_file() -> None:
    """One file for each, and no other file beside them."""
    assert {each.name for each in pkgutil.iter_modules(commands.__path__)} == set(COMMANDS) == set(commands_of())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_handler_and_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What the parser names can be imported, and explains itself."""
    takes_none = ("purge", "show", "dev", "worker", "init", "list", "config", "doctor", "version")
    word = "bash" if command == "completion" else "x"
    args = build_parser().parse_args([command] if command in takes_none else [command, word])
    assert args.run.__module__ == f"worker.cli.commands.{command}"
    assert run([command, "--help"]) == 0
    assert f"codehub-storage {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line",
    [["--json", "--data-dir", "/x", "show"], ["show", "--json", "--data-dir", "/x"]],
    ids=["before", "behind"],
)
def test_common_options_stand_before_or_behind_the_command(line: list[str]) -> None:
    """A default of the command's parser does not undo what was said before it."""
    args = build_parser().parse_args(line)
    assert args.json is True
    assert args.data_dir == Path("/x")


def test_common_options_have_defaults() -> None:
    """Unsaid is not missing."""
    args = build_parser().parse_args(["show"])
    assert (args.json, args.data_dir, args.workspace_id, args.limit) == (False, None, None, 20)


@pytest.mark.parametrize(
    "line", [[], ["nosuch"], ["archive"], ["archive", "a", "b"], ["provision", "a", "--size-bytes", "x"]]
)
def test_nonsense_is_a_usage_error(line: list[str]) -> None:
    """One line that says what is wrong and what would be right; status 2."""
    with pytest.raises(UsageError):
        build_parser().parse_args(line)
    out, err = StringIO(), StringIO()
    assert run(line, out, err) == Exit.USAGE
    assert out.getvalue() == ""
    assert err.getvalue().startswith("error: InvalidInput: ")
    assert "usage: codehub-storage" in err.getvalue()


def test_status_is_gone() -> None:
    """Who types it is told what shows the same."""
    out, err = StringIO(), StringIO()
    assert run(["status", "ws1"], out, err) == Exit.USAGE
    assert "invalid choice: 'status'" in err.getvalue()
    assert typed(err.getvalue().partition("do:")[2].replace("WORKSPACE_ID", "ws1")) == [
        "codehub-storage show",
        "codehub-storage show ws1",
    ]


def test_usage_error_as_json() -> None:
    """`--json` holds where the command line itself is wrong."""
    out, err = StringIO(), StringIO()
    assert run(["archive", "--json"], out, err) == Exit.USAGE
    error = json.loads(out.getvalue())["error"]
    assert (error["code"], error["retryable"]) == ("InvalidInput", False)
    assert "HOME_STORE_KEY" in error["hint"]


def test_version_is_an_option_too(capsys: pytest.CaptureFixture[str]) -> None:
    """As of most programs; without a command."""
    assert run(["--version"]) == Exit.DONE
    assert capsys.readouterr().out == f"codehub-storage {version('codehub-storage-service')}\n"


def test_purge_of_nothing_is_refused_before_anything_is_connected() -> None:
    """Naming neither key is a mistake, not an empty job."""
    out, err = StringIO(), StringIO()
    assert run(["purge", "--json"], out, err) == Exit.USAGE
    assert "--volume" in json.loads(out.getvalue())["error"]["hint"]


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_has_one_of_the_documented_statuses(code: ErrorCode) -> None:
    """Wrong input 2, cancelled 5; the others 3 or 4, as the caller may try again or not."""
    error = StorageError(code, "x")
    special = {ErrorCode.INVALID_INPUT: Exit.USAGE, ErrorCode.CANCELLED: Exit.CANCELLED}
    assert exit_of(error) == special.get(code, Exit.RETRY if error.retryable else Exit.OPERATOR)
    assert str(int(exit_of(error))) in MEANINGS


def test_help_lists_statuses_and_settings(capsys: pytest.CaptureFixture[str]) -> None:
    """The statuses stand in the program's help, the settings in the worker's."""
    run(["--help"])
    text = capsys.readouterr().out
    assert all(meaning in text for meaning in MEANINGS.values())
    run(["worker", "--help"])
    text = capsys.readouterr().out
    assert [name for name in Settings.model_fields if variable(name) not in text] == []


def test_document_is_complete() -> None:
    """docs/cli.md names every command, option and exit status."""
    text = DOCUMENT.read_text()
    parser = build_parser()
    options = set(re.findall(r"--[a-z-]+", parser.format_help()))
    for command in COMMANDS:
        if command != "worker":
            options |= set(re.findall(r"--[a-z-]+", _help(command)))
    wanted = {f"`codehub-storage {command}" for command in COMMANDS} | (options - {"--help"})
    wanted |= {f"| {status} | {meaning} |" for status, meaning in MEANINGS.items()}
    assert sorted(each for each in wanted if each not in text) == []


def _help(command: str) -> str:
    return commands_of()[command].format_help()
