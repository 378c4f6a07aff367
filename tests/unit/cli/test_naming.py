"""Keys and workspaces as they are typed: what has the shape of a key is that key, everything else is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from codehub_storage.errors import ErrorCode, StorageError
from worker.cli.naming import archive_key, home_store_key, keys_to_purge


def refused(work: Callable[[], object]) -> str:
    """The hint of ``InvalidInput``."""
    with pytest.raises(StorageError) as caught:
        work()
    assert caught.value.code == ErrorCode.INVALID_INPUT
    return caught.value.hint


@pytest.mark.field("T5")
@pytest.mark.parametrize(
    ("named", "backend", "key"),
    [
        ("ws1", "directory", "ws_ws1_home"),
        ("ws1", "local-docker", "ws_ws1_home"),
        ("ws1", "k8s", "ws-ws1-home"),
        ("ws_ws1_home", "directory", "ws_ws1_home"),
        ("ws-a-home", "k8s", "ws-a-home"),
        ("ws-a-home", "directory", "ws-a-home"),  # a key, though that place has none of this shape and says so
        ("ws-a", "k8s", "ws-ws-a-home"),
        ("home", "k8s", "ws-home-home"),
    ],
)
def test_volumes(named: str, backend: str, key: str) -> None:
    """The key, or that of the workspace as the backend names volumes."""
    assert home_store_key(named, backend) == key


@pytest.mark.field("T5")
@pytest.mark.parametrize(
    ("named", "key"),
    [
        ("ws1", "ws1/home.tar.gz"),
        ("ws1/home.tar.gz", "ws1/home.tar.gz"),
        ("archives/ws1.tar.gz", "archives/ws1.tar.gz"),
    ],
)
def test_archives(named: str, key: str) -> None:
    """The key, or that of the archive that we make of the workspace."""
    assert archive_key(named) == key


@pytest.mark.parametrize(
    ("named", "right"), [("a/home.tar.gz", "ws-a-home"), ("archives/a.tar.gz", "ws-a-home"), ("ws_a", "by its id")]
)
def test_what_is_no_volume_is_refused(named: str, right: str) -> None:
    """The hint has the right key."""
    assert right in refused(lambda: home_store_key(named, "k8s"))


@pytest.mark.parametrize(
    ("named", "right"), [("ws_a_home", "a/home.tar.gz"), ("ws-a-home", "a/home.tar.gz"), ("a/b", "by its id")]
)
def test_what_is_no_archive_is_refused(named: str, right: str) -> None:
    """The hint has the right key. A workspace that is called as a volume is not taken for it."""
    assert right in refused(lambda: archive_key(named))


@pytest.mark.parametrize("named", ["archives", "ws-archives-home", "archives/home.tar.gz", "", "WS1"])
def test_what_names_nothing_is_refused(named: str) -> None:
    """The reserved id too, and what would be its key."""
    refused(lambda: home_store_key(named, "directory"))
    refused(lambda: archive_key(named))


def test_purge_takes_a_workspace_or_keys() -> None:
    """Alone it names both; with a key beside it, or as a key without its option, nobody can say what was meant."""
    assert keys_to_purge("a", None, None, "k8s") == ("ws-a-home", "a/home.tar.gz")
    assert keys_to_purge(None, "a", None, "k8s") == ("ws-a-home", None)
    assert keys_to_purge(None, None, "archives/a.tar.gz", "k8s") == (None, "archives/a.tar.gz")
    refused(lambda: keys_to_purge("a", "a", None, "k8s"))
    refused(lambda: keys_to_purge("a", None, "a", "k8s"))
    refused(lambda: keys_to_purge("ws-a-home", None, None, "k8s"))
    refused(lambda: keys_to_purge("a/home.tar.gz", None, None, "k8s"))
    assert "--volume" in refused(lambda: keys_to_purge(None, None, None, "k8s"))
