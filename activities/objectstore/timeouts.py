"""How long a request to the object store may take, and how often it is sent. ``S3Settings`` may say otherwise.

The client library's defaults are made for other purposes: a minute for each attempt, five attempts. Here a call is
bounded in time and sent twice at most, since Temporal owns all further retries.
"""

from __future__ import annotations

from datetime import timedelta

ATTEMPTS = 2
"""How often the library sends a request, the first time included."""
BACKOFF = timedelta(seconds=2)
"""The longest pause between the two."""
CONNECT = timedelta(seconds=5)
READ = timedelta(seconds=30)
"""The longest silence."""
COMPLETE = timedelta(minutes=10)
"""For making an object of its parts, which S3 documents to take minutes."""
SLOWEST_UPLOAD = 256 * 1024
"""Bytes per second below which an upload is given up."""
