"""Arguments of commands: how one is said, and those that several commands take."""

from __future__ import annotations

from typing import Any

Argument = tuple[tuple[str, ...], dict[str, Any]]


def argument(*names: str, **how: Any) -> Argument:
    """As ``argparse.ArgumentParser.add_argument`` takes it."""
    return names, how


WORKSPACE_ID = argument("workspace_id", metavar="WORKSPACE_ID")
HOME_STORE_KEY = argument("home_store_key", metavar="HOME_STORE_KEY", help="such as ws_ID_home; or the workspace's ID")
ARCHIVE_KEY = argument("archive_key", metavar="ARCHIVE_KEY", help="such as ID/home.tar.gz; or the workspace's ID")
ARCHIVE_ID = argument("--archive-id", metavar="ID", help="a kept older version instead of the current one")
ACCEPT_LOSS = argument("--accept-loss", metavar="UID", help="go on without this volume, which is lost")
OLD_PLACE_IS_DEAD = argument(
    "--old-place-is-dead", action="store_true", help="nothing runs any more where the workspace was before"
)
PLACE = argument("--place", metavar="NAME", help="where the workspace lives (default: the setting)")
OPERATION = (PLACE, argument("--no-wait", action="store_true", help="start it, print the run id, and leave"))
NEW_VOLUME = (
    argument("--size-bytes", type=int, metavar="N", help="size of the new volume"),
    argument("--storage-class", metavar="NAME", help="class of the new volume"),
)
OLD_VOLUME = (
    argument("--expected-volume-uid", metavar="UID", help="refuse if the volume is another one by now"),
    argument("--remove-stopped", action="store_true", help="remove what holds the volume without running"),
)
