"""What a run can be searched by in Temporal. The worker registers them, the client sets the first two at the start."""

from __future__ import annotations

from temporalio.common import SearchAttributeKey

WS_ID = SearchAttributeKey.for_keyword("WsId")
WS_OP = SearchAttributeKey.for_keyword("WsOp")
WS_PHASE = SearchAttributeKey.for_keyword("WsPhase")
WS_BYTES = SearchAttributeKey.for_int("WsBytes")
SEARCH_ATTRIBUTES = (WS_ID, WS_OP, WS_PHASE, WS_BYTES)
