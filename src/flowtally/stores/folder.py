"""The data folder: whose it is, which files it holds, and how much room is left.

One process at a time: an exclusive `flock` on the file `lock`, which the kernel drops when the
process dies, so that no stale lock can ever keep a service from starting. The file says in words
who holds it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

from flowtally.disk import free_bytes, sync_folder
from flowtally.errors import DataFolderError, FolderInUse

_OWNERS = {
    "sums.duckdb": ("duckdb",),
    "results.sqlite": ("hourly",),
    "flows.sqlite": ("sql",),
    "memory.parquet": ("memory",),
    "memory.open": ("memory",),
    "journal.sqlite": ("duckdb", "hourly"),
}
"""Which stores a file may be of. By its journal alone a folder is not told: nothing has been summed
yet, and either of them may begin."""


def owner_of(path: Path) -> str | None:
    """The store whose files a folder has; None where they do not tell, or there are none."""
    for name, owners in _OWNERS.items():
        if len(owners) == 1 and (path / name).exists():
            return owners[0]
    return None


class DataFolder:
    """See the module. `open` takes the folder, `close` gives it back."""

    def __init__(self, path: Path, store: str = "duckdb") -> None:
        self.path = path
        self.store = store
        self.journal = path / "journal.sqlite"
        self.sums = path / "sums.duckdb"
        self.results = path / "results.sqlite"
        self.lock = path / "lock"
        self.staging = path / "backup.new"
        """Copies of files, while a backup of them is sent."""
        self._lock_descriptor: int | None = None

    def open(self, create: bool = True) -> None:
        """Makes the folder if it is missing and takes it for this process.

        Raises `FolderInUse` naming the process that has it, or `DataFolderError`, also where it
        holds another store's data.
        """
        self._refuse_foreign()
        # Every file of this process that follows is made for its owner only (0600): flows tell
        # who talks to whom. DuckDB and SQLite make files of their own, so it cannot be per file.
        os.umask(0o077)
        try:
            if create:
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataFolderError(
                f"the data folder {self.path} cannot be used: {error.strerror}"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = self.holder()
            os.close(descriptor)
            url = holder.get("url")
            raise FolderInUse(
                f"the data folder {self.path} is in use by flowtally process"
                f" {holder.get('pid', '?')}" + (f", which serves on {url}" if url else ""),
                url if isinstance(url, str) else None,
            ) from error
        self._lock_descriptor = descriptor
        self.sign()
        # Of a process that was killed over it; nobody else can have it now.
        shutil.rmtree(self.staging, ignore_errors=True)

    def _refuse_foreign(self) -> None:
        for name, owners in _OWNERS.items():
            if self.store not in owners and (self.path / name).exists():
                owner = " or ".join(owners)
                raise DataFolderError(
                    f"{self.path} holds the data of the store {owner} ({name}); start that one, or"
                    f" give the {self.store} store a folder of its own with --data"
                )

    def sign(self, url: str | None = None) -> None:
        """Writes into the lock file who holds it, and where it can be reached."""
        holder: dict[str, object] = {"pid": os.getpid()}
        if url is not None:
            holder["url"] = url
        assert self._lock_descriptor is not None
        text = json.dumps(holder).encode()
        try:
            os.pwrite(self._lock_descriptor, text, 0)
            os.ftruncate(self._lock_descriptor, len(text))
        except OSError:
            # A full disk: the lock itself holds all the same; only its words are missing.
            return

    def holder(self) -> dict[str, object]:
        """What the lock file says of the process that holds the folder."""
        try:
            holder = json.loads(self.lock.read_bytes())
        except (OSError, ValueError):
            return {}
        return holder if isinstance(holder, dict) else {}

    def close(self) -> None:
        """Gives the folder back. May be called twice."""
        if self._lock_descriptor is not None:
            # Nobody has it now: the words must not lead to whoever gets that pid next.
            with suppress(OSError):
                os.ftruncate(self._lock_descriptor, 0)
            os.close(self._lock_descriptor)
            self._lock_descriptor = None

    def sync(self) -> None:
        """Makes the folder's list of files durable: a synced file without its name is lost."""
        sync_folder(self.path)

    def free_bytes(self) -> int:
        """Room left for this process on the folder's file system."""
        return free_bytes(self.path)
