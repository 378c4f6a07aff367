"""The rights that `doctor` asks for are those that deploy/kubernetes grants."""

from __future__ import annotations

from activities.backends.kubernetes.rights import HELPFUL, NEEDED
from tests.k8s.rights import granted


def test_what_is_asked_for_is_what_is_granted() -> None:
    """A right that the manifests gain must be checked too."""
    assert {(right.group, right.resource, right.verb) for right in (*NEEDED, *HELPFUL)} == granted()
