"""Reading the tail: entries that are no files, handed on one by one as they stream past."""

from __future__ import annotations

from collections.abc import Callable

from activities.dataplane.beneath import clean_components, shown
from activities.dataplane.entries import Entry, FileType
from activities.dataplane.gate import corrupt_segment
from activities.dataplane.tarheader import TarScanner


class TailReader:
    """A ``unpack.Writer`` for all tail segments in turn: calls ``on_entry`` for each entry of the tail.

    ``ArchiveCorrupt`` for files, unclean names, links that come after folders, and a tail without its end.
    """

    def __init__(self, on_entry: Callable[[Entry], None]) -> None:
        self._on_entry = on_entry
        self._scanner = TarScanner()
        self._in_folders = False
        self.number = 0

    def write(self, raw: bytes) -> None:
        """The next bytes of the tail."""
        for found in self._scanner.feed(raw):
            if isinstance(found, Entry):
                self._check(found)
                self._on_entry(found)

    def finish(self) -> None:
        """All tail segments have come, and with them the end of the archive."""
        if not self._scanner.ended:
            raise corrupt_segment(self.number, "the tail has no end-of-archive blocks")

    def _check(self, entry: Entry) -> None:
        if entry.path or entry.type is not FileType.DIRECTORY:
            clean_components(entry.path)
        if b"\0" in entry.target:
            raise corrupt_segment(self.number, f"{shown(entry.path)} leads to an impossible name")
        if entry.type is FileType.DIRECTORY:
            self._in_folders = True
        elif entry.type is FileType.FILE or self._in_folders:
            raise corrupt_segment(self.number, f"{shown(entry.path)} does not belong into the tail")
