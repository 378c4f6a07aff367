"""An image of one megabyte or two, made without any engine: busybox, and the libraries that it asks for."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

TINY = "localhost/tiny:tests"
"""A shell and the usual commands."""
PAUSE = "localhost/pause:tests"
"""The same, for the container that holds a Pod's network: nobody would fetch the usual one."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_SLEEP = ["/bin/sleep", "2147483647"]


def write_tiny_image(archive: Path) -> None:
    """A docker archive with both names."""
    layer = _layer()
    config = _encoded(
        {
            "architecture": _ARCHITECTURES[platform.machine()],
            "os": "linux",
            "config": {"Cmd": _SLEEP, "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    )
    manifest = [{"Config": "config.json", "RepoTags": [TINY, PAUSE], "Layers": ["layer.tar"]}]
    with tarfile.open(archive, "w") as tar:
        for name, content in (("config.json", config), ("layer.tar", layer), ("manifest.json", _encoded(manifest))):
            _add(tar, name, content, 0o644)


def _layer() -> bytes:
    busybox = shutil.which("busybox")
    assert busybox is not None, "busybox is not installed"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder, mode in (("bin", 0o755), ("tmp", 0o1777), ("etc", 0o755), ("proc", 0o755), ("sys", 0o755)):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        _add(tar, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\n", 0o644)
        _add(tar, "bin/busybox", Path(busybox).read_bytes(), 0o755)
        for library in _libraries(busybox):
            _add(tar, library.lstrip("/"), Path(library).read_bytes(), 0o755)
        for applet in _output(busybox, "--list").split():
            if applet != "busybox":
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)
    return buffer.getvalue()


def _libraries(program: str) -> list[str]:
    """None for a static one."""
    return re.findall(r"(/\S+) \(0x", _output("ldd", program, may_fail=True))


def _output(*command: str, may_fail: bool = False) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=not may_fail).stdout


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


def _encoded(value: object) -> bytes:
    return json.dumps(value).encode()
