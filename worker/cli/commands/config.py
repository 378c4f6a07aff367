"""`config`: every setting in force, where it comes from, and how Temporal is reached. Shows no secret."""

from __future__ import annotations

import re
from argparse import Namespace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from worker.cli.exits import Exit
from worker.cli.format import table
from worker.cli.output import Output

if TYPE_CHECKING:
    from pydantic import JsonValue

    from worker.cli.answers import ConfigAnswer
    from worker.settings import Settings

HELP = "every setting in force, and where it comes from"
ARGUMENTS = ()
MASK = "**********"
_USER_IN_URL = re.compile(r"(?<=://)[^/@\s]*@")
_SECRET_OPTION = re.compile(r"(?i)((?:pass|secret|token|key)[a-z_]*=)[^,]*")
_SECRET_NAME = re.compile(r"(?i)pass|secret|token|key")


async def run(args: Namespace, output: Output) -> int:
    """Prints a table."""
    from worker.cli.session import load_settings

    settings = load_settings(args)
    answer = settings_in_force(settings)
    output.answer(answer, _as_text(answer, settings))
    return Exit.DONE


def settings_in_force(settings: Settings) -> ConfigAnswer:
    """All of them, in the order of the class."""
    from worker.cli.answers import ConfigAnswer, SettingAnswer, TemporalAnswer
    from worker.settings import Origin, Settings, variable

    dumped = settings.model_dump(mode="json")
    rows = []
    for name in Settings.model_fields:
        value, origin = _shown(getattr(settings, name), dumped[name]), settings.origin(name)
        if name == "web_ui" and settings.web_ui is None and settings.web_ui_address is not None:
            value, origin = settings.web_ui_address, Origin.STACK
        rows.append(SettingAnswer(variable=variable(name), value=value, source=origin.value))
    connection = settings.temporal_connection()
    temporal = TemporalAnswer(
        address=connection.address,
        namespace=connection.namespace,
        profile=connection.profile,
        tls=connection.tls,
        api_key=connection.api_key,
        source=connection.origin.value,
        web_ui=settings.web_ui_address,
    )
    return ConfigAnswer(settings=rows, temporal=temporal)


def _shown(value: object, dumped: Any) -> JsonValue:
    """What may be shown of a value: nothing of a secret, nor of a password in a URL or in a driver's options."""
    from pydantic import ByteSize, SecretStr

    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, ByteSize):
        return int(value)
    if isinstance(value, dict):
        return {
            str(name): MASK if _SECRET_NAME.search(str(name)) else _SECRET_OPTION.sub(rf"\g<1>{MASK}", str(option))
            for name, option in value.items()
        }
    if isinstance(dumped, str):
        return _USER_IN_URL.sub(f"{MASK}@", dumped)
    shown: JsonValue = dumped
    return shown


def _as_text(answer: ConfigAnswer, settings: Settings) -> str:
    raw = [getattr(settings, name) for name in type(settings).model_fields]
    rows = [("SETTING", "VALUE", "SOURCE")]
    rows += [(row.variable, _text(row.value, of), row.source) for row, of in zip(answer.settings, raw, strict=True)]
    temporal = answer.temporal
    marks = [
        *([f"profile {temporal.profile}"] if temporal.profile else []),
        *(["TLS"] if temporal.tls else []),
        *(["API key"] if temporal.api_key else []),
    ]
    where = ", ".join([f"{temporal.address}, namespace {temporal.namespace}", *marks])
    return f"{table(rows)}\n\nTemporal: {where} (from: {temporal.source})\nweb UI: {temporal.web_ui or 'not known'}"


def _text(value: JsonValue, raw: object) -> str:
    from pydantic import ByteSize

    if isinstance(raw, ByteSize):
        return raw.human_readable()
    if isinstance(raw, timedelta):
        return str(raw)
    return "" if value is None else str(value)
