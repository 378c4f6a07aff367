"""The hook of the site: where links of the repository's files lead when they are pages of the site."""

from __future__ import annotations

from typing import Any

import pytest

from docgen.site import PAGES, ROOT, on_page_content, relinked

UNUSED: dict[str, Any] = {"page": None, "config": None, "files": None}


@pytest.mark.parametrize(
    ("source", "uri", "link", "expected"),
    [
        ("docs/faq.md", "faq.md", "[x](cli.md#options)", "[x](cli.md#options)"),
        ("docs/faq.md", "faq.md", "[x](../DESIGN.md#words)", "[x](design.md#words)"),
        ("docs/guides/compose.md", "guides/compose.md", "[x](../../DESIGN.md)", "[x](../design.md)"),
        ("docs/guides/compose.md", "guides/compose.md", "[x](../cli.md)", "[x](../cli.md)"),
        ("DESIGN.md", "design.md", "[x](docs/cli.md#options)", "[x](cli.md#options)"),
        ("DESIGN.md", "design.md", "[model/](model/)", "[model/](model.md)"),
        ("docs/faq.md", "faq.md", "[the settings](../worker/settings.py)", "the settings (`worker/settings.py`)"),
        ("docs/faq.md", "faq.md", "[`docker-compose.yml`](../docker-compose.yml)", "`docker-compose.yml`"),
        (
            "deploy/kubernetes/README.md",
            PAGES["deploy/kubernetes/README.md"],
            "[x](worker.yaml)",
            "x (`deploy/kubernetes/worker.yaml`)",
        ),
        ("docs/faq.md", "faq.md", "[x](https://temporal.io)", "[x](https://temporal.io)"),
        ("docs/faq.md", "faq.md", "[x](#words)", "[x](#words)"),
        ("docs/faq.md", "faq.md", "[x](../nowhere.py)", "[x](../nowhere.py)"),
        ("docs/index.md", "index.md", "![x](images/states.svg)", "![x](images/states.svg)"),
    ],
)
def test_a_link_leads_where_it_can_lead(source: str, uri: str, link: str, expected: str) -> None:
    """To a page, or it is the path of a file; what leads nowhere is left for mkdocs to complain of."""
    assert relinked(f"see {link}.", source, uri) == f"see {expected}."


def test_a_bar_in_a_table_is_a_bar() -> None:
    """`tar | gzip` in a cell; outside of tables nothing is changed."""
    html = r"<table><td><code>x \| y</code></td></table><p><code>x \| y</code></p>"
    assert on_page_content(html, **UNUSED) == r"<table><td><code>x | y</code></td></table><p><code>x \| y</code></p>"


def test_pages_from_outside_are_there() -> None:
    """Each is a file of the repository."""
    assert [source for source in PAGES if not (ROOT / source).is_file()] == []
