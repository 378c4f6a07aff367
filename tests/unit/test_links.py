"""Links between the repository's pages lead somewhere: to a file that is there, and to a heading in it.

mkdocs checks those within the site; here are all, as they are read in the repository.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    {*ROOT.glob("*.md"), *ROOT.glob("[!.]*/README.md"), *ROOT.glob("deploy/*/README.md"), *ROOT.glob("docs/**/*.md")}
)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|/", re.IGNORECASE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    """File and heading; nothing points out of the repository or to a path of some machine."""
    assert [target for target in links(page) if not leads_somewhere(page, target)] == []


def test_the_pages_are_found() -> None:
    """The loop above is about these, too."""
    names = {str(page.relative_to(ROOT)) for page in PAGES}
    assert {"README.md", "DESIGN.md", "docs/index.md", "docs/guides/compose.md", "model/README.md"} <= names


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("DESIGN.md#glossary", True),
        ("docs/", True),
        ("DESIGN.md#no-such-heading", False),
        ("nowhere.md", False),
        ("../", False),
        ("/etc/hosts", False),
        ("https://temporal.io", True),
    ],
)
def test_a_dead_link_is_seen(target: str, expected: bool) -> None:
    """By file and by heading."""
    assert leads_somewhere(ROOT / "README.md", target) is expected


def leads_somewhere(page: Path, target: str) -> bool:
    if target.startswith("/"):
        return False
    if ELSEWHERE.match(target):
        return True
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.is_relative_to(ROOT) or file == ROOT or not file.exists():
        return False
    return not anchor or anchor in headings(file)


def links(page: Path) -> Iterator[str]:
    """Where links and pictures of a page lead."""
    for token in tokens(page):
        for child in token.children or ():
            target = child.attrGet("href") if child.type == "link_open" else child.attrGet("src")
            if target:
                yield str(target)


@cache
def headings(page: Path) -> frozenset[str]:
    """The anchors of a page, as GitHub and GitLab make them."""
    found = tokens(page)
    texts = [after.content for token, after in pairwise(found) if token.type == "heading_open"]
    return frozenset(re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts)


@cache
def tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
