"""The journal as of one moment, for whoever accounts for it while commits go on.

Everything is read in one transaction of a connection of its own, so what was accepted and what is
pending agree with each other, however long the reading takes, and nobody else waits for it. It
writes nothing, and never brings the log into the database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flowtally import limits
from flowtally.errors import DamagedData
from flowtally.ingest.journal_rows import AcceptedLine, Pending, read_ledger, read_pending
from flowtally.ingest.journal_schema import state_of
from flowtally.wire.blob import damage_in_blob


class JournalSnapshot:
    """See the module; good for as long as `journal_snapshot` keeps it open."""

    def __init__(self, reader: sqlite3.Connection, path: Path) -> None:
        state = state_of(reader)
        assert state is not None, "an open journal has a state"
        self.last_sequence = state.last_sequence
        self.discarded_through = state.discarded_through
        self.folder_id = state.folder_id
        self._reader = reader
        self._path = path

    def accepted(self) -> list[AcceptedLine]:
        """What was accepted, repeated and refused, per arrival hour, in rising order."""
        return read_ledger(self._reader)

    def pending(self, after: int, tally_bytes_max: int) -> Iterator[list[Pending]]:
        """The batches and expiries after a sequence number, oldest first, in pieces of that size
        or of one entry. Raises `DamagedData` naming what cannot be read."""
        while after < self.last_sequence:
            found = read_pending(self._reader, after, self.last_sequence, tally_bytes_max)
            if not found:
                return
            for entry in found:
                fault = None if entry.expire_before is not None else damage_in_blob(entry.tally)
                if fault is not None:
                    raise DamagedData(
                        f"{self._path} is damaged: {fault}, in batch {entry.sequence}"
                    )
            yield found
            after = found[-1].sequence

    def copy_to(self, path: Path, go_on: Callable[[], None]) -> None:
        """Writes the whole database as it was at that moment; `go_on` may raise between pieces."""
        copy_database(self._reader, path, go_on)


def copy_database(source: sqlite3.Connection, path: Path, go_on: Callable[[], None]) -> None:
    """Copies a database that is being read in a transaction: what is copied is of its moment, and
    no commit makes it begin anew. The copy is not synced."""
    copy = sqlite3.connect(path, isolation_level=None)
    try:
        # It is worth nothing until it is whole, and is thrown away if it does not become so.
        copy.execute("PRAGMA synchronous = OFF")
        copy.execute("PRAGMA journal_mode = OFF")
        source.backup(copy, pages=limits.BACKUP_PAGES, progress=lambda *_: go_on())
    finally:
        copy.close()


@contextmanager
def database_moment(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that reads a database as it is now, whatever is committed meanwhile. It writes
    nothing."""
    reader = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        reader.execute("BEGIN")
        yield reader
    finally:
        reader.close()


@contextmanager
def journal_snapshot(path: Path) -> Iterator[JournalSnapshot]:
    """Opens a snapshot of an open journal. Raises `DamagedData` where it cannot be read."""
    try:
        with database_moment(path) as reader:
            yield JournalSnapshot(reader, path)
    except sqlite3.DatabaseError as error:
        raise DamagedData(f"{path} cannot be read: {error}") from error
