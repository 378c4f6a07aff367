"""Volumes as directories below one root on a local disk, moved by child processes of the worker.

The backend of one machine without Docker. Not for a root that several machines share: its lock is the kernel's own.
"""
