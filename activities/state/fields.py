"""Kinds of fields that several documents of the bucket have. What one of them may hold, all may."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Count = Annotated[int, Field(ge=0, lt=2**63)]
"""Every number that we read: what a signed word of 64 bits holds."""

Ordinal = Annotated[int, Field(ge=1, lt=2**63)]
"""One of a format, or of an epoch."""

ArchiveId = Annotated[str, Field(pattern=r"^[0-9A-Za-z][-0-9A-Za-z]{0,63}$")]
