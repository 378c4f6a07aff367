"""Links into Temporal's web UI."""

from __future__ import annotations

from urllib.parse import quote


def run_link(web_ui: str, namespace: str, workflow_id: str, run_id: str) -> str:
    """Where the history of a run is shown."""
    return f"{web_ui}/namespaces/{namespace}/workflows/{quote(workflow_id, safe='')}/{run_id}/history"
