"""`worker`: serves the volume place that the settings name."""

from __future__ import annotations

import asyncio
import signal
import textwrap
from argparse import Namespace

from worker.cli.exits import Exit
from worker.cli.output import Output

HELP = "serve the volume place that the settings name, until SIGTERM"
ARGUMENTS = ()
_INDENT = "      "


async def run(args: Namespace, output: Output) -> int:
    """Until SIGINT or SIGTERM, then the work is handed back."""
    from worker import control
    from worker.cli.session import load_settings
    from worker.logging import configure

    settings = load_settings(args)
    configure(settings)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await control.serve(settings, stop)
    return Exit.DONE


def more_help() -> str:
    """Every setting with its default, from the one place that knows them."""
    from worker.settings import Settings, variable

    lines = ["", "settings:"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None or field.default_factory else f" (default: {field.default})"
        text = f"{field.description}{default}"
        lines += [f"  {variable(name)}", textwrap.indent(textwrap.fill(text, 100), _INDENT)]
    lines.append("Temporal's own: TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_TLS..., TEMPORAL_CONFIG_FILE.")
    return "\n".join(lines) + "\n"
