"""The small words around foreign archives: their id, their limits, and what must fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from activities.dataplane.foreign import foreign_archive_id
from activities.dataplane.manifest import Manifest, Totals
from activities.dataplane.preflight import preflight
from activities.objectstore.base import ObjectInfo
from codehub_storage.errors import ErrorCode, StorageError

INFO = ObjectInfo("archives/ws1.tar.gz", 5, "etag", "v1")


def test_the_id_of_a_foreign_archive_is_stable_and_follows_the_object() -> None:
    """Same object, same id for ever; another key, version or ETag, another id; fields do not run into one another."""
    assert foreign_archive_id(INFO) == "foreign-592b9b94a72fb5037ecb450d3b0126ca"
    others = [replace(INFO, key="archives/ws2.tar.gz"), replace(INFO, version_id=None), replace(INFO, etag="other")]
    moved = replace(INFO, version_id="v1e", etag="tag")
    assert len({foreign_archive_id(info) for info in [INFO, moved, *others]}) == 5


@pytest.mark.parametrize(("totals", "what"), [(Totals(file_bytes=1 << 60), "bytes"), (Totals(files=1 << 50), "inodes")])
async def test_preflight_names_what_is_missing(tmp_path: Path, totals: Totals, what: str) -> None:
    """NoSpace with the need and what there is."""
    with pytest.raises(StorageError) as caught:
        await preflight(tmp_path, Manifest(totals=totals))
    assert caught.value.code is ErrorCode.NO_SPACE
    assert caught.value.details["what"] == what
    assert caught.value.details["needed"] > caught.value.details["free"] > 0
