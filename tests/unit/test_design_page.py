"""DESIGN.md names tests that exist, explains the words that it uses, and draws what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import markdown
from mkdocs.config import load_config

from activities.state.record import VolumeState
from workflows import steps

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "DESIGN.md").read_text()
DIAGRAMS = re.findall(r"^```mermaid\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
WORDS = (
    *("claim", "inspect", "gate", "seal", "settle", "segment", "part", "tail", "placeholder", "tombstone"),
    *("release", "fence", "lease", "mover", "lineage", "foreign"),
)


def test_every_test_that_guards_an_invariant_is_there() -> None:
    """Each of the ten names at least one file, and all of them exist."""
    section = PAGE.partition("\n## What always holds\n")[2].partition("\n## ")[0]
    invariants = re.split(r"^(?=\d+\. \*\*)", section, flags=re.MULTILINE)[1:]
    assert [int(each.partition(".")[0]) for each in invariants] == list(range(1, 11))
    for invariant in invariants:
        files = re.findall(r"`(\w+/[\w/]+\.py)`", invariant.partition("Guarded by")[2])
        assert files, invariant
        assert [name for name in files if not (ROOT / "tests" / name).is_file()] == []


def test_the_glossary_has_each_word_that_a_reader_needs() -> None:
    """As an entry of its own."""
    glossary = PAGE.partition("\n## Glossary\n")[2].partition("\n## ")[0]
    entries = re.findall(r"^- \*\*([^*]+)\*\*:", glossary, re.MULTILINE)
    assert [word for word in WORDS if word not in entries] == []


def test_diagrams_name_steps_and_states_that_exist() -> None:
    """The record's states are all of them; each name with an underscore is a step of a workflow, or a field."""
    states, sequence = sorted(DIAGRAMS, key=lambda text: text.startswith("sequenceDiagram"))
    named = set(re.findall(r"^ +(\w+) --> (\w+)", states, re.MULTILINE))
    assert {state for arrow in named for state in arrow} == {*VolumeState, "none"}
    words = set(re.findall(r"\b[a-z]+_[a-z_]+\b", states + sequence))
    assert [word for word in sorted(words - {"home_store_key", "archive_key"}) if not hasattr(steps, word)] == []
    assert {"inspect_for_archive", "mark_archived", "delete_volume"} <= words


def test_the_site_shows_diagrams_as_text() -> None:
    """Drawn, the theme would fetch the program for it from another server when the page is read."""
    config = load_config(str(ROOT / "mkdocs.yml"))
    options = {"extensions": config.markdown_extensions, "extension_configs": config.mdx_configs}
    html = markdown.markdown(f"```mermaid\n{DIAGRAMS[0]}```\n", **options)
    assert 'class="mermaid"' not in html
    assert "abandon_volume" in html
