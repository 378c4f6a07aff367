"""Imported first in the process that movers are forked from, and nowhere else.

A service manager that stops the worker sends SIGTERM to all its processes. The fork server must outlive that: its
death kills the movers (PDEATHSIG) before they could hand back their work. It ends by itself after the worker.
Blocked and not ignored: a mover inherits the mask, so a SIGTERM that comes before it can handle one waits for it.
"""

from __future__ import annotations

import signal

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
