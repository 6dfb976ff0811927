"""Where a store puts the copies that a backup is made of, and how the work on them is ended.

The staging folder stands in the data folder, so that copies can share blocks with what they are
copied from. It is removed at the end, and after a kill when the folder is opened again.

Leaves to others: what is copied, and how it is of one moment.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import duckdb

from flowtally import limits
from flowtally.disk import free_bytes
from flowtally.errors import DamagedData, NotAccepting
from flowtally.model import Backup, BackupPoint

GoOn = Callable[[], None]
"""Called between two pieces of the work; raises where nobody wants it any more."""
_RETRY_S = 30
_NOT_THERE = (errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EXDEV)


class _Abandoned(Exception):
    """Whoever wanted the copy is gone."""


@asynccontextmanager
async def staged(staging: Path, make: Callable[[Path, GoOn], BackupPoint]) -> AsyncIterator[Backup]:
    """Has `make` fill the staging folder, in a thread, and removes it at the end. Who is cancelled
    meanwhile waits until the thread has let go of everything. Raises `NotAccepting`."""
    abandoned = threading.Event()

    def go_on() -> None:
        if abandoned.is_set():
            raise _Abandoned

    def work() -> Backup:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(mode=0o700)
        point = make(staging, go_on)
        return Backup(point, tuple(str(path) for path in sorted(staging.iterdir())))

    working = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        try:
            backup = await asyncio.shield(working)
        except (OSError, sqlite3.Error, duckdb.Error, DamagedData) as error:
            raise NotAccepting(f"no backup could be made: {error}", _RETRY_S) from error
        yield backup
    finally:
        abandoned.set()
        await asyncio.wait([working])
        # Looked at, so that nobody complains that what was given up did not end well.
        working.exception()
        await asyncio.to_thread(shutil.rmtree, staging, ignore_errors=True)


def require_room(folder: Path, size_bytes: int) -> None:
    """Raises `NotAccepting` where a copy would take the room that writing needs."""
    found_bytes = free_bytes(folder)
    if found_bytes < size_bytes + limits.DISK_FREE_BYTES_MIN:
        raise NotAccepting(
            f"no room for a backup: its copy takes {size_bytes} bytes beside the data for a while,"
            f" and {found_bytes} are free",
            _RETRY_S,
        )


def copy_file(path: Path, target: Path, size_bytes: int, go_on: GoOn) -> None:
    """Copies so much of a file; a file system that can share blocks does. It is not synced."""
    with path.open("rb") as source, target.open("xb") as copy:
        done = 0
        while done < size_bytes:
            go_on()
            done += _copy_some(source.fileno(), copy.fileno(), done, size_bytes - done)


def _copy_some(source: int, copy: int, at: int, count: int) -> int:
    count = min(count, 16 * limits.BACKUP_READ_BYTES)
    try:
        copied = os.copy_file_range(source, copy, count, at, at)
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
        copied = os.pwrite(copy, os.pread(source, limits.BACKUP_READ_BYTES, at)[:count], at)
    if not copied:
        raise OSError("a file became shorter while it was copied")
    return copied
