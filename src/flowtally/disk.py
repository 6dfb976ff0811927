"""What the standard library leaves to be put together of a folder: its durability, and its room."""

from __future__ import annotations

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Makes the folder's list of files durable: a synced file without its name is lost. Raises
    `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_bytes(folder: Path) -> int:
    """Room left for this process on the folder's file system. Raises `OSError`."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
