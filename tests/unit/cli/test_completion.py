"""The completion scripts: a shell that sources one completes our command line."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from worker.cli.commands.completion import script_for
from worker.cli.commands.list import STATES
from worker.cli.parser import commands_of

COMPLETE = r"""
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
COMP_LINE="${COMP_WORDS[*]}"
COMP_POINT=${#COMP_LINE}
COMP_TYPE=9 COMP_KEY=9
compopt() { :; }
function_of=$(complete -p codehub-storage | sed 's/.*-F \([^ ]*\).*/\1/')
"$function_of" codehub-storage "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one for bash."""
    path = tmp_path_factory.mktemp("bash") / "codehub-storage"
    path.write_text(script_for("bash"))
    return path


def complete(script: Path, *words: str) -> set[str]:
    """What bash would offer for the last word."""
    done = subprocess.run(
        ["bash", "--norc", "-c", COMPLETE, "bash", str(script), "codehub-storage", *words],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return {line.strip() for line in done.stdout.splitlines()} - {""}


@pytest.mark.tool("bash")
def test_bash_completes_commands(script: Path) -> None:
    """All of them, and those that begin so."""
    assert set(commands_of()) <= complete(script, "")
    assert complete(script, "ver") == {"verify", "version"}


@pytest.mark.tool("bash")
def test_bash_completes_options_and_choices(script: Path) -> None:
    """Options of the command that was typed, and the words that an option or an argument takes."""
    assert complete(script, "archive", "--re") == {"--remove-stopped"}
    assert complete(script, "list", "--st") == {"--state"}
    assert set(STATES) <= complete(script, "list", "--state", "")
    assert complete(script, "completion", "f") == {"fish"}


@pytest.mark.tool("bash")
def test_bash_completes_folders(script: Path, tmp_path: Path) -> None:
    """`--data-dir` takes a folder, and no file."""
    (tmp_path / "stack").mkdir()
    (tmp_path / "stone").write_text("")
    found = complete(script, "show", "--data-dir", f"{tmp_path}/st")
    assert {name.rstrip("/") for name in found} == {str(tmp_path / "stack")}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_is_in_every_script(shell: str) -> None:
    """And where the shell is here, it finds the script without an error of syntax."""
    text = script_for(shell)
    assert [name for name in commands_of() if name not in text] == []
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n"], input=text, text=True, check=True, timeout=60)
