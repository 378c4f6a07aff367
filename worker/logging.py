"""Structured logs: every line names the workspace, operation and run it is about, and no line shows a secret.

The three fields come from Temporal where a step or workflow is running. Code logs as usual
(``logging.getLogger(__name__)``, fields in ``extra``) and knows nothing of shapes.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from temporalio import activity, workflow

from worker.settings import Settings

FIELDS = ("workspace", "operation", "run")
_WORKFLOW_PREFIX = "storage/"
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message", *FIELDS}
_VERBOSE = ("aiobotocore", "aiohttp", "asyncio", "boto3", "botocore", "urllib3")
"""Libraries whose debug lines show request headers, or drown ours."""


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Log to ``stream`` (standard error), by the settings. Called again: replaces what was."""
    secrets = [each.get_secret_value() for each in (settings.s3_secret_key, settings.s3_access_key) if each]
    shape = JsonFormatter(secrets) if settings.log_format == "json" else TextFormatter(secrets)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(shape)
    handler.addFilter(add_fields)
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    workflow.logger.workflow_info_on_message = False
    activity.logger.activity_info_on_message = False
    for name in _VERBOSE:
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLevelName(settings.log_level)))


def add_fields(record: logging.LogRecord) -> bool:
    """Give the record its three fields, empty where unknown; those given in ``extra`` stay. Drops nothing."""
    known = _from_temporal()
    for name in FIELDS:
        if not hasattr(record, name):
            setattr(record, name, known.get(name, ""))
    return True


def _from_temporal() -> Mapping[str, str]:
    """Of the workflow or activity that is running here; ids of other shapes are not of a workspace."""
    info: workflow.Info | activity.Info
    if workflow.in_workflow():
        info = workflow.info()
        run = info.run_id
    elif activity.in_activity():
        info = activity.info()
        run = info.workflow_run_id or ""
    else:
        return {}
    workflow_id = info.workflow_id or ""
    workspace = workflow_id.removeprefix(_WORKFLOW_PREFIX) if workflow_id.startswith(_WORKFLOW_PREFIX) else ""
    return {"workspace": workspace, "operation": info.workflow_type or "", "run": run}


class _SafeFormatter(logging.Formatter):
    """One line for each record, control characters escaped, known secrets masked."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        super().__init__()
        self._secrets = [secret for secret in secrets if secret]

    def format(self, record: logging.LogRecord) -> str:
        line = self.line(record)
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return line

    def line(self, record: logging.LogRecord) -> str:
        raise NotImplementedError

    def error(self, record: logging.LogRecord) -> str:
        """The traceback, or nothing."""
        return self.formatException(record.exc_info) if record.exc_info else ""


class JsonFormatter(_SafeFormatter):
    """A JSON object: ``time`` (RFC 3339), ``level``, ``logger``, ``message``, the three fields, extras, ``error``."""

    def line(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **{name: getattr(record, name, "") for name in FIELDS if getattr(record, name, "")},
            **_extras(record),
        }
        if error := self.error(record):
            entry["error"] = error
        return json.dumps(entry, default=str, ensure_ascii=False)


class TextFormatter(_SafeFormatter):
    """For people: time, level, logger, ``[workspace operation run]``, message, extras as ``name=value``, traceback."""

    def line(self, record: logging.LogRecord) -> str:
        who = " ".join(value for name in FIELDS if (value := getattr(record, name, "")))
        words = [_time(record), f"{record.levelname:<7}", record.name, f"[{who}]" if who else "", record.getMessage()]
        words += [f"{name}={value}" for name, value in _extras(record).items()]
        text = " ".join(word for word in words if word).replace("\r", "\\r").replace("\n", "\\n")
        return f"{text}\n{error}" if (error := self.error(record)) else text


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    """Fields that the caller gave; Temporal's own bundles are left out, as their content is in the three fields."""
    return {
        name: value
        for name, value in record.__dict__.items()
        if name not in _STANDARD and not name.startswith(("_", "temporal_", "__temporal"))
    }
