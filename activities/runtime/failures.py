"""Failures of an activity that its workflow distinguishes by type."""

from __future__ import annotations

from temporalio.exceptions import ApplicationError

from workflows.messages import UPLOAD_LOST


def upload_lost(error: Exception) -> ApplicationError:
    """The failure of a step when only a new upload helps."""
    return ApplicationError(f"the store lost the upload: {error}", type=UPLOAD_LOST, non_retryable=True)
