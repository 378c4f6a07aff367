"""Timeouts and retries, named by kind of step. One scale stretches or shrinks all of them (tests).

Retries are bounded by time, never by attempts: a rolling restart costs attempts. A start-to-close timeout does not
stop the attempt's code, so calls to servers have shorter timeouts of their own.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TypedDict

from temporalio.common import RetryPolicy
from temporalio.workflow import ActivityCancellationType


class Timeouts(TypedDict, total=False):
    """The options of ``workflow.execute_activity`` that a policy fills."""

    start_to_close_timeout: timedelta
    schedule_to_start_timeout: timedelta
    schedule_to_close_timeout: timedelta
    heartbeat_timeout: timedelta
    retry_policy: RetryPolicy
    cancellation_type: ActivityCancellationType


_scale = 1.0


def configure(scale: float) -> None:
    """Scale all timeouts of this process. Timeouts are no commands, so workers of different scale replay alike."""
    global _scale
    _scale = scale


def seconds(value: float) -> timedelta:
    """A duration at today's scale."""
    return timedelta(seconds=value * _scale)


def _retry() -> RetryPolicy:
    return RetryPolicy(initial_interval=seconds(1), backoff_coefficient=2.0, maximum_interval=seconds(60))


def control() -> Timeouts:
    """A short talk with the store or the backend."""
    return {
        "start_to_close_timeout": seconds(300),
        "heartbeat_timeout": seconds(60),
        "schedule_to_close_timeout": seconds(1800),
        "retry_policy": _retry(),
        "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    }


def complete() -> Timeouts:
    """Making the object of its parts: S3 documents minutes."""
    return {**control(), "start_to_close_timeout": seconds(900)}


def deletion() -> Timeouts:
    """Deleting a volume: past the point of no return, then bounded, so that `cleanup_required` is said in time."""
    return {**control(), "start_to_close_timeout": seconds(3600), "schedule_to_close_timeout": seconds(5400)}


def undo() -> Timeouts:
    """Compensation: as patient as a control step, and never cut off by the cancel that caused it."""
    return {**control(), "cancellation_type": ActivityCancellationType.ABANDON}


def detach() -> Timeouts:
    """Making sure that a mover is gone. Bounded, as a person who cancelled waits for it. A mover on a machine that does
    not respond for so long ends with its run."""
    return {**undo(), "schedule_to_close_timeout": seconds(300)}


def brief() -> Timeouts:
    """What may as well be left undone: tried for a minute."""
    return {**undo(), "schedule_to_close_timeout": seconds(60)}


def lease() -> Timeouts:
    """Holding a mover: queueing for one is admission, so no bound in time that counts the queue.

    Nor in attempts: workers that hand a mover over cost one each. The lease itself gives up after ``LEASE_ATTEMPTS``.
    """
    return {
        "start_to_close_timeout": timedelta(days=7),
        "heartbeat_timeout": seconds(30),
        "retry_policy": RetryPolicy(initial_interval=seconds(1), maximum_interval=seconds(30)),
        "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    }


def data() -> Timeouts:
    """Work inside the mover. No schedule-to-start bound: the lease reports at once when the mover is gone.

    Cancelling does not wait: the lease stops the mover and waits for that.
    """
    return {
        "start_to_close_timeout": timedelta(hours=24),
        "heartbeat_timeout": seconds(120),
        "schedule_to_close_timeout": timedelta(hours=48),
        "retry_policy": _retry(),
        "cancellation_type": ActivityCancellationType.TRY_CANCEL,
    }


def reading() -> Timeouts:
    """Reading a whole archive back without a mover: as long as it takes, and a cancel waits until nothing is read."""
    return {**data(), "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED}


def mover_backoff(deaths: int) -> timedelta:
    """Pause before the next mover after ``deaths`` in a row."""
    return seconds(min(60.0, 2.0 ** min(deaths, 6)))


MOVER_DEATHS = 5
"""Maximum number of movers in a row that die without any step having ended. Then the operation fails."""
