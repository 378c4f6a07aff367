"""Makes the golden files of the archive format. Run it as root, once per format version, and commit what it wrote:

    python -m tests.golden.make

An archive that was written once must stay readable for ever, so files of a published version are never made anew.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from activities.dataplane.manifest import FORMAT_VERSION
from tests.fakes.memory_store import MemoryStore
from tests.harness.archives import make_archive
from tests.harness.trees import IS_ROOT, make_rich_tree, snapshot

FOLDER = Path(__file__).parent / f"format-{FORMAT_VERSION}"
ARCHIVE, MANIFEST, TREE = "home.tar.gz", "home.tar.gz.meta", "tree.json"


def to_json(tree: dict[bytes, Any]) -> str:
    """What ``snapshot`` saw, with bytes as base64."""
    entries = {_text(path): {key: _plain(value) for key, value in facts.items()} for path, facts in tree.items()}
    return json.dumps(entries, indent=1, sort_keys=True) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return _text(value)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


async def _make() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "tree"
        root.mkdir()
        make_rich_tree(root)
        store = MemoryStore(min_part_bytes=0)
        made = await make_archive(root, store)
        found = await store.get(made.info.key)
        assert found is not None
        (FOLDER / ARCHIVE).write_bytes(found[0])
        (FOLDER / MANIFEST).write_bytes(made.manifest.to_json())
        (FOLDER / TREE).write_text(to_json(snapshot(root)))


if __name__ == "__main__":
    if not IS_ROOT:
        sys.exit("only root can make a tree with owners and attributes of every kind")
    FOLDER.mkdir()  # an error where it exists: see above
    asyncio.run(_make())
