"""Keys and ids: injective both ways, and strict at the door."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codehub_storage import keys
from codehub_storage.errors import ErrorCode, StorageError

IDS = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True).filter(lambda text: text != "archives")


@given(IDS)
def test_keys_lead_back_to_their_workspace(workspace_id: str) -> None:
    """Volume names of both shapes, archive keys and foreign keys all name the workspace they were made from."""
    assert keys.check_workspace_id(workspace_id) == workspace_id
    for backend in ("directory", "local-docker", "k8s"):
        key = keys.volume_key(workspace_id, backend)
        assert keys.workspace_of_volume(key) == workspace_id
        assert keys.is_volume_key(key)
    assert keys.workspace_of_archive(keys.archive_key(workspace_id)) == workspace_id
    assert keys.is_archive_key(keys.archive_key(workspace_id))
    assert not keys.is_archive_key(workspace_id)
    assert keys.workspace_of_archive(f"archives/{workspace_id}.tar.gz") == workspace_id


@pytest.mark.parametrize(
    ("backend", "key"), [("directory", "ws_a-b_home"), ("local-docker", "ws_a-b_home"), ("k8s", "ws-a-b-home")]
)
def test_a_volume_is_named_as_the_platform_does(backend: str, key: str) -> None:
    """Underscores are no part of a Kubernetes name."""
    assert keys.volume_key("a-b", backend) == key


@given(IDS, IDS)
def test_two_workspaces_never_share_a_key(one: str, other: str) -> None:
    """Different ids, different keys, and no key of one lies below a prefix of the other."""
    if one == other:
        return
    ours = {keys.archive_key(one), keys.manifest_key(keys.archive_key(one)), keys.record_key(one)}
    theirs = {keys.archive_key(other), keys.manifest_key(keys.archive_key(other)), keys.record_key(other)}
    assert not ours & theirs
    assert not any(key.startswith(f"{other}/") for key in ours)


@pytest.mark.parametrize(
    "workspace_id", ["", "-a", "a-", "A", "a_b", "a/b", "..", "archives", "a" * 41, "a\n", "ä", None, 7]
)
def test_what_is_no_workspace_id_is_refused(workspace_id: str) -> None:
    """InvalidInput, with a hint that says what an id looks like."""
    with pytest.raises(StorageError) as refused:
        keys.check_workspace_id(workspace_id)
    assert refused.value.code == ErrorCode.INVALID_INPUT
    assert "a-z" in refused.value.hint


@pytest.mark.parametrize("key", ["ws_archives_home", "ws_a-home", "ws-a_home", "ws__home", "home", "ws_a_home\n", None])
def test_what_is_no_volume_name_is_refused(key: str) -> None:
    """InvalidInput for anything but the two shapes."""
    with pytest.raises(StorageError) as refused:
        keys.workspace_of_volume(key)
    assert refused.value.code == ErrorCode.INVALID_INPUT


@pytest.mark.parametrize(
    "key",
    ["a/home.tar.gz.meta", "archives/home.tar.gz", "a/../home.tar.gz", "archives/a/b.tar.gz", "/home.tar.gz", None],
)
def test_what_is_no_archive_key_is_refused(key: str) -> None:
    """InvalidInput for anything but the two shapes."""
    with pytest.raises(StorageError) as refused:
        keys.workspace_of_archive(key)
    assert refused.value.code == ErrorCode.INVALID_INPUT
