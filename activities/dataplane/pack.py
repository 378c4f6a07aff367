"""One data segment into one gzip member: a header of ours before each file, its data straight from the file.

Every file is compared with the plan after its last byte was read, so one that changed, vanished or was replaced since
the walk is noticed here, before the second walk looks at the whole tree. A tar process a segment takes half as much
processor time again: a pipe to copy through, and headers to be checked on this side.
"""

from __future__ import annotations

from activities.dataplane.gzipmember import MemberWriter, PackedMember
from activities.dataplane.plan import Plan, SegmentPlan
from activities.dataplane.reading import VolumeReader
from activities.dataplane.threads import Stop


def pack_segment(plan: Plan, segment: SegmentPlan, stop: Stop, *, min_bytes: int) -> PackedMember:
    """The member of a data segment, padded to ``min_bytes`` stored bytes where it is shorter.

    Raises ``VolumeChanged`` and ``VolumeUnreadable``, naming the path.
    """
    member = MemberWriter()
    with VolumeReader(plan.root) as reader:
        for _, entry, _ in plan.entries(segment):
            stop.check()
            if segment.cut is None:
                reader.write_file(entry, member)
            else:
                reader.write_piece(entry, segment.cut, plan.holes.get(segment.start, []), member, stop)
    return member.finish(min_bytes)
