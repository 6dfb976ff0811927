"""The end of DuckDB's write-ahead log that was being written when the power went.

A transaction is in the log once the log is synced. What was written behind that, and not synced,
may be on the disk in part, in any order of its pages. DuckDB passes over an end that is cut off,
but refuses a log in which an entry's checksum is wrong, though nothing behind the last sync was
promised to anybody. So the log is cut at that entry. Whether that was all right is not for this
module to say: the journal knows what it has let go of, and as long as all of that is still in the
database, nothing is missing. Until it is known, the whole log is kept beside.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import duckdb

from flowtally.stores.folder import DataFolder

_BAD_ENTRY = re.compile(r"Corrupt WAL file: entry at byte position (\d+) computed checksum")
"""DuckDB 2.0's words; the position is behind the entry's size and checksum."""


class LogTail:
    """The log of one data folder: `sums.duckdb.wal`, and `sums.duckdb.wal.whole` beside it."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self._log = Path(f"{folder.sums}.wal")
        self._whole = Path(f"{folder.sums}.wal.whole")
        self._beside = Path(f"{folder.sums}.wal.new")

    def cut(self, error: duckdb.Error) -> int:
        """Cuts the log at the entry that `error` names; returns how many bytes were left out, 0
        where the error is about something else. Raises `OSError`."""
        found = _BAD_ENTRY.search(str(error))
        if found is None:
            return 0
        with self._log.open("rb") as log, self._beside.open("wb") as beside:
            beside.write(log.read(int(found[1])))
            beside.flush()
            os.fsync(beside.fileno())
        left_out = self._log.stat().st_size - self._beside.stat().st_size
        self._log.replace(self._whole)
        self._beside.replace(self._log)
        self._folder.sync()
        return left_out

    def accept(self) -> None:
        """Lets go of the whole log, if there is one: nothing is missing without its end."""
        self._whole.unlink(missing_ok=True)

    def put_back(self) -> None:
        """Makes the log whole again, if it was cut: it is damaged, and its owner's to look at."""
        if self._whole.exists():
            self._whole.replace(self._log)
