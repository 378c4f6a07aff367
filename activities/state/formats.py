"""The format of a document that we read. It is checked before anything else: a later format may hold anything."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from codehub_storage.errors import ErrorCode, StorageError


class _Head(BaseModel):
    """What every document has in every format, or leaves out."""

    format_version: Annotated[int, Field(ge=1, lt=2**63)] = 1
    required_features: tuple[str, ...] = ()


def check_format(data: bytes, name: str, *, newest: int) -> None:
    """``Unsupported`` for a document of a later format than ``newest``, and for one that asks for any feature: there
    are none yet. What cannot even be asked for its format is left to its reader to refuse."""
    try:
        head = _Head.model_validate_json(data)
    except ValidationError:
        return
    features = f" and asks for {', '.join(sorted(head.required_features))[:200]}" if head.required_features else ""
    if head.format_version > newest or features:
        raise StorageError(
            ErrorCode.UNSUPPORTED, f"{name} has format {head.format_version}{features}", hint="Upgrade the service."
        )
