"""Every command of docs/quick-start.md and README.md works as it stands, on a Debian where nothing is installed.

The quick start comes first and installs less: README.md is typed on the same machine, in the same checkout, so the
packages and the archiver are built once. What README.md itself must install is compared.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.sources import TOP
from tests.pages import transcript
from tests.pages.blocks import not_executed
from tests.pages.machine import Machine
from tests.pages.reading import LEFT_OUT, PAGES, QUICK_START, README, follow, typed


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """An empty Debian, on which a page is typed after the other."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("debootstrap", "unshare"))):
        missing = "needs root, debootstrap and util-linux, to make a Debian"
        if os.environ.get("CI"):
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    with Machine() as made:
        yield made


@pytest.mark.parametrize("page", [QUICK_START, README], ids=lambda page: page.name)
def test_every_command_works(machine: Machine, page: Path) -> None:
    """In the page's order, in one shell, each with status 0; `dev` becomes ready, and after Ctrl-C nothing runs."""
    with machine.shell() as shell:
        ran = [each.command for _, each in follow(page, shell)]
        assert machine.processes() == []
    assert ran
    assert [each for each in ran if each != "^C"] == typed(page)


def test_the_later_page_stands_alone() -> None:
    """README.md installs all that the quick start does, and then says the same; else it would live on what is there."""
    installing, setup, *_ = typed(QUICK_START)
    first, second, *_ = typed(README)
    assert installing.startswith("sudo apt-get install ")
    assert set(installing.split()) <= set(first.split())
    assert (setup, second) == ("make install", "make install")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_command_escapes(page: Path) -> None:
    """What a reader would type stands in a block of `bash`, typed here, or `bash docker`, typed by tests/compose."""
    assert not_executed(page) == []


def test_transcript_is_of_this_quick_start() -> None:
    """docs/transcript.md has the commands of today's docs/quick-start.md; `make walkthrough` writes it anew."""
    assert transcript.commands(transcript.PAGE.read_text()) == typed(QUICK_START)


def test_what_is_left_out_ci_runs() -> None:
    """The suite cannot run itself; CI does, by itself or by a target that runs others."""
    [steps] = [line for line in (TOP / ".ci/run").read_text().splitlines() if line.startswith("for step in")]
    lines = (TOP / "Makefile").read_text().splitlines()
    called = [line for line in lines if line.startswith("\t$(MAKE)")]
    needed = [line.partition("##")[0].partition(":")[2] for line in lines if re.match(r"[a-z0-9-]+:", line)]
    assert {each.removeprefix("make ") for each in LEFT_OUT} <= set(" ".join([steps, *called, *needed]).split())
