"""Fills a file system, so far as a test wants it."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def fill(ballast: Path, leave_bytes: int) -> None:
    """Takes all the room that is left, but for so many bytes."""
    chunk = bytes(64 * 1024)
    # Unbuffered: what could not be written must not be written once more at the close.
    with ballast.open("wb", buffering=0) as file:
        while True:
            status = os.statvfs(ballast.parent)
            free_bytes = status.f_bavail * status.f_frsize
            if free_bytes <= leave_bytes:
                return
            try:
                file.write(chunk[: free_bytes - leave_bytes])
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    return
                raise
