"""One data segment into one gzip member: a header of ours before each file, its data straight from the file.

Every file is compared with the plan after its last byte was read, so one that changed, vanished or was replaced since
the walk is noticed here, before the second walk looks at the whole tree. A tar process a segment takes half as much
processor time again: a pipe to copy through, and headers to be checked on this side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from activities.dataplane.gzipmember import MemberWriter, PackedMember
from activities.dataplane.plan import Plan, SegmentPlan
from activities.dataplane.reading import VolumeReader
from activities.dataplane.running import Port, Runner
from activities.dataplane.threads import Stop


async def pack_with(runner: Runner, plan: Plan, segment: SegmentPlan, *, min_bytes: int) -> PackedMember:
    """``pack_segment``, run there."""
    chunks: list[bytes | bytearray] = []
    only = replace(plan, segments=(), holes={at: plan.holes[at] for at in {segment.start} & plan.holes.keys()})
    member = await runner.run(_emit_segment, only, segment, min_bytes, emitted=chunks)
    return replace(member, chunks=chunks)


def _emit_segment(port: Port, plan: Plan, segment: SegmentPlan, min_bytes: int) -> PackedMember:
    return pack_segment(plan, segment, port.stop, min_bytes=min_bytes, keep=port.emit)


def pack_segment(
    plan: Plan, segment: SegmentPlan, stop: Stop, *, min_bytes: int, keep: Callable[[bytes], None] | None = None
) -> PackedMember:
    """The member of a data segment, padded to ``min_bytes`` stored bytes where it is shorter; ``keep`` as its writer's.

    Raises ``VolumeChanged`` and ``VolumeUnreadable``, naming the path.
    """
    member = MemberWriter(keep)
    with VolumeReader(plan.root) as reader:
        for _, entry, _ in plan.entries(segment):
            stop.check()
            if segment.cut is None:
                reader.write_file(entry, member)
            else:
                reader.write_piece(entry, segment.cut, plan.holes.get(segment.start, []), member, stop)
    return member.finish(min_bytes)
