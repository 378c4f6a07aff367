"""mkdocs' hook: files of the repository that are pages of the site too, and links that lead out of docs/.

On the repository's own page a link such as ``../worker/settings.py`` leads to the file. The site has the few files of
``PAGES`` as pages of its own; of any other file it shows the path, since it cannot know where the repository is.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES: Mapping[str, str] = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "DESIGN.md": "design.md",
    "deploy/kubernetes/README.md": "guides/kubernetes-manifests.md",
    "examples/README.md": "examples.md",
    "model/README.md": "model.md",
}
"""Files outside of docs/, and what they are called in the site."""

_DOCS = PurePosixPath("docs")
_SOURCES = {uri: source for source, uri in PAGES.items()}
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
_CELL = re.compile(r"<td.*?</td>", re.DOTALL)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|[#/]", re.IGNORECASE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are no files of docs/."""
    for source, uri in PAGES.items():
        files.append(File.generated(config, uri, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the links of a page lead where they lead in the site."""
    uri = page.file.src_uri
    return relinked(markdown, _SOURCES.get(uri, str(_DOCS / uri)), uri)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let a bar in a table's code be a bar: it has to be escaped there, and Python's Markdown shows how."""
    return _CELL.sub(lambda cell: cell[0].replace("\\|", "|"), html)


def relinked(markdown: str, source: str, uri: str) -> str:
    """The text of ``source``, a file of the repository, as the page ``uri`` of the site."""

    def replace(match: re.Match[str]) -> str:
        image, text, target = match.groups()
        if _ELSEWHERE.match(target):
            return match[0]
        path, mark, anchor = target.partition("#")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if (ROOT / file).is_dir() and f"{file}/README.md" in PAGES:
            file = f"{file}/README.md"
        if PurePosixPath(file).is_relative_to(_DOCS):
            return f"{image}[{text}]({_way(uri, str(PurePosixPath(file).relative_to(_DOCS)))}{mark}{anchor})"
        if file in PAGES:
            return f"{image}[{text}]({_way(uri, PAGES[file])}{mark}{anchor})"
        if not (ROOT / file).exists():
            return match[0]  # mkdocs reports that it leads nowhere
        is_its_name = text.strip("`/") in (path.strip("/"), file)
        return f"`{file}`" if is_its_name else f"{text} (`{file}`)"

    return _LINK.sub(replace, markdown)


def _way(uri: str, other: str) -> str:
    return posixpath.relpath(other, posixpath.dirname(uri) or ".")
