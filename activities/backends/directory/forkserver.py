"""Imported first in the process that movers are forked from, and nowhere else.

A service manager that stops the worker sends SIGTERM to all its processes. The fork server must outlive that: its
death kills the movers (PDEATHSIG) before they could hand back their work. It ends by itself after the worker.
"""

from __future__ import annotations

import signal

signal.signal(signal.SIGTERM, signal.SIG_IGN)
