"""Addresses in Temporal's web UI."""

from __future__ import annotations

from urllib.parse import quote


def run_link(web_ui: str, namespace: str, workflow_id: str, run_id: str) -> str:
    """The page of one run: summary, phase, last error, and each step by name."""
    workflow = quote(workflow_id, safe="")
    return f"{web_ui.rstrip('/')}/namespaces/{quote(namespace)}/workflows/{workflow}/{run_id}/history"
