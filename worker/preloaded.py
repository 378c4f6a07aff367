"""Imported in the process that movers of the directory backend are forked from, and nowhere else: what each would read
and would read alike."""

from __future__ import annotations

from activities.objectstore.client import read_models

read_models()
