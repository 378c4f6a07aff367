"""The id of a foreign archive."""

from __future__ import annotations

from dataclasses import replace

from activities.dataplane.foreign import foreign_archive_id
from activities.objectstore.base import ObjectInfo

INFO = ObjectInfo("archives/ws1.tar.gz", 5, "etag", "v1")


def test_the_id_of_a_foreign_archive_is_stable_and_follows_the_object() -> None:
    """Same object, same id for ever; another key, version or ETag, another id; fields do not run into one another."""
    assert foreign_archive_id(INFO) == "foreign-592b9b94a72fb5037ecb450d3b0126ca"
    others = [replace(INFO, key="archives/ws2.tar.gz"), replace(INFO, version_id=None), replace(INFO, etag="other")]
    moved = replace(INFO, version_id="v1e", etag="tag")
    assert len({foreign_archive_id(info) for info in [INFO, moved, *others]}) == 5
