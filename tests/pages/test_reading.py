"""Who follows a page finds all of its commands, and notices the first that does not work."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest

from tests.pages import transcript
from tests.pages.blocks import DOCKER, HERE, blocks, not_executed
from tests.pages.reading import follow
from tests.pages.shell import CommandFailed, Ran, Shell
from tests.pages.transcript import TellsTooMuch, Transcript

PAGE = """
# A page

```bash
cd /
test "$PWD" = /   # the shell is the same
codehub-storage dev
echo \\
    "$COLOUR"
make test
```

```text
output
```

```bash docker
docker ps
```

## More

```bash
{last}
```
"""
DEV = """#!/bin/sh
trap 'echo ended; exit {status}' INT
echo it is ready
while :; do sleep 0.02; done
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """One that says the truth."""
    path = tmp_path / "page.md"
    path.write_text(PAGE.format(last="pwd"))
    return path


def read(page: Path, *, status: int = 0) -> list[tuple[str, str]]:
    """What was typed and what was said, with a `dev` that ends with ``status``."""
    program = page.with_name("codehub-storage")
    program.write_text(DEV.format(status=status))
    program.chmod(0o755)
    environment = {"PATH": f"{page.parent}:{os.defpath}", "COLOUR": "blue", "TMPDIR": str(page.parent)}
    with Shell((), environment) as shell:
        return [(each.command, each.output) for _, each in follow(page, shell)]


def test_commands_are_typed_in_one_shell(page: Path) -> None:
    """One after the other; `dev` goes on beside them, and is interrupted at the end."""
    assert [said for _, said in read(page)] == ["", "", "it is ready\n", "blue\n", "/\n", "ended\n"]
    assert [path.name for path in page.parent.glob("tmp.*")] == []


def test_a_page_that_lies_is_seen(page: Path) -> None:
    """The first command that fails is named; one that is not there fails."""
    for last in ("test -e /no/such/file", "codehub-storag status", "false | true; exit 3"):
        page.write_text(PAGE.format(last=last))
        with pytest.raises(CommandFailed, match=f"^{last.split()[0]}.*\nended with status [1-9]"):
            read(page)


def test_dev_that_ends_badly_is_seen(page: Path) -> None:
    """After Ctrl-C its status counts."""
    with pytest.raises(CommandFailed, match="status 7"):
        read(page, status=7)


def test_blocks_are_told_apart(page: Path) -> None:
    """The two kinds by their words, with the heading above; a line that ends with a backslash goes on."""
    assert [(each.heading, len(each.commands)) for each in blocks(page, HERE)] == [("A page", 5), ("More", 1)]
    assert blocks(page, HERE)[0].commands[3].split() == ["echo", '"$COLOUR"']
    assert [each.commands for each in blocks(page, DOCKER)] == [("docker ps",)]
    assert not_executed(page) == []


@pytest.mark.parametrize(
    "hidden",
    ["```sh\nls\n```", "```console\n$ ls\n```", "```bash no-test\nls\n```", "    make demo", "```\nmake demo\n```"],
)
def test_a_hidden_command_is_seen(page: Path, hidden: str) -> None:
    """Other shells, further words, indented blocks, commands among output."""
    page.write_text(f"{page.read_text()}\nText.\n\n{hidden}\n")
    assert len(not_executed(page)) == 1


def test_a_transcript_tells_what_was_typed_and_said() -> None:
    """Below the page's headings, with times; long output is cut, and servers of packages are not named."""
    made = Transcript("Debian 12", 2)
    made.add("Install", Ran("make dist", "".join(f"line {number}\n" for number in range(100)), 61.2))
    made.add("Install", Ran("pip download x", "from https://somewhere.example/x\n1 %\r99 %\rdone\n", 1))
    made.add("Look", Ran("codehub-storage dev", "ready: http://127.0.0.1:8233\n", 2.34))
    made.add("Look", Ran("^C", "", 0.5))
    text = made.text(date(2026, 1, 2), ["/tmp/elsewhere"])
    assert transcript.commands(text) == ["make dist", "pip download x", "codehub-storage dev"]
    assert "line 5\n... (82 lines)\nline 88\n" in text
    assert "$ pip download x\ndone\n```\n\ntook 1.0 s\n" in text
    assert "$ codehub-storage dev\nready: http://127.0.0.1:8233\n```\n\nready after 2.3 s\n" in text
    assert "on 2 January 2026, on an empty Debian 12 with 2 cores" in text
    assert "From the first command to the last: 1 min 5 s." in text
    assert text.count("\n## ") == 2


def test_a_transcript_names_no_machine() -> None:
    """What must not be told is refused, and not published."""
    made = Transcript("Debian 12", 2)
    made.add("Look", Ran("pwd", "/tmp/elsewhere/home\n", 0.1))
    with pytest.raises(TellsTooMuch, match="/tmp/elsewhere"):
        made.text(date(2026, 1, 2), ["/tmp/elsewhere"])
