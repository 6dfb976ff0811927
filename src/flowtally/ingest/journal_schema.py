"""The journal's tables, and how its database is opened and let go of.

Everything that decides how durable a commit is stands in `open_database`.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from flowtally import __version__
from flowtally.errors import DataFolderError

logger = logging.getLogger(__name__)

Row = TypeVar("Row")

APPLICATION_ID = 0x464C4F57
""""FLOW", in the file's header: `file journal.sqlite` names it, and no other database is taken."""
FORMAT = 2
_FREE_PAGES_KEPT = 2_000

_SCHEMA = """
CREATE TABLE state (
    format INTEGER NOT NULL,
    folder_id TEXT NOT NULL,
    last_sequence INTEGER NOT NULL,
    discarded_through INTEGER NOT NULL
) STRICT;
CREATE TABLE batch_ids (
    sequence INTEGER PRIMARY KEY,
    batch_id TEXT NOT NULL UNIQUE,
    fingerprint BLOB NOT NULL,
    records INTEGER NOT NULL,
    flows INTEGER NOT NULL,
    arrived_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE pending (
    sequence INTEGER PRIMARY KEY,
    arrival_hour INTEGER NOT NULL,
    arrived_ms INTEGER NOT NULL,
    batches INTEGER NOT NULL,
    tally BLOB NOT NULL,
    expire_before INTEGER
) STRICT;
CREATE TABLE ledger (
    arrival_hour INTEGER PRIMARY KEY,
    batches INTEGER NOT NULL,
    records INTEGER NOT NULL,
    bytes_rx TEXT NOT NULL,
    bytes_tx TEXT NOT NULL,
    batches_repeated INTEGER NOT NULL,
    batches_refused INTEGER NOT NULL
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class State:
    """The one row of `state`."""

    format: int
    folder_id: str
    last_sequence: int
    discarded_through: int


def open_database(path: Path) -> sqlite3.Connection:
    """Opens the database, creating the file where there is none."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    try:
        if connection.execute("PRAGMA page_count").fetchone() == (0,):
            # Lets the space of deleted tallies be given back bit by bit; counts before the first
            # table. In an old file it would only be a write, even to a damaged one.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: each commit is synced before it returns. NORMAL would sync at checkpoints only.
        connection.execute("PRAGMA synchronous = FULL")
        # Checkpoints are made in the background: in a commit they would delay its answers.
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA cache_size = -32768")
        connection.execute("PRAGMA temp_store = MEMORY")
    except BaseException:
        connection.close()
        raise
    return connection


def create_schema(connection: sqlite3.Connection, folder_id: str) -> None:
    """Makes the tables in one transaction: after a crash they are all there, or none."""
    connection.executescript(
        f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; {_SCHEMA}"
        f"INSERT INTO state VALUES ({FORMAT}, '{folder_id}', 0, 0); COMMIT;"
    )


def renew(path: Path, folder_id: str) -> None:
    """Gives a database that nobody has open, this one or another with such a `state`, another
    folder's id, durably."""
    connection = open_database(path)
    try:
        connection.execute("UPDATE state SET folder_id = ?", (folder_id,))
    finally:
        connection.close()


def state_of(connection: sqlite3.Connection) -> State | None:
    """The state, or None where the tables were never made.

    Raises `sqlite3.DatabaseError` for a file that is another program's.
    """
    tables = connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()[0]
    if not tables:
        return None
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if application_id != APPLICATION_ID:
        raise sqlite3.DatabaseError("it is another program's database")
    row = connection.execute("SELECT * FROM state").fetchone()
    if row is None:
        raise corrupt("its state is missing")
    return State(*as_written(row, tuple[int, str, int, int], "its state"))


def as_written(row: object, kinds: type[Row], what: str) -> Row:
    """A row whose values are of the kinds that were written. A changed bit in its head makes
    another kind of value of one, or none, and SQLite tells that in its full check alone. Raises
    `sqlite3.DatabaseError`."""
    try:
        return msgspec.convert(row, kinds)
    except msgspec.ValidationError as error:
        raise corrupt(f"{what} is not as it was written: {error}") from error


def corrupt(message: str) -> sqlite3.DatabaseError:
    """An error as SQLite raises it for a damaged file, for damage that it did not see itself."""
    error = sqlite3.DatabaseError(message)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    error.sqlite_errorname = "SQLITE_CORRUPT"
    return error


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is damaged, and not only of no use now."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def integrity_faults(connection: sqlite3.Connection) -> list[str]:
    """SQLite's own full check of the whole file: a line for each fault it finds. What it cannot
    even check it tells by an error, which is a fault as well."""
    try:
        rows = connection.execute("PRAGMA integrity_check").fetchall()
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return [] if rows == [("ok",)] else [str(row[0]) for row in rows]


def refuse_newer(path: Path, known: int = FORMAT) -> None:
    """Raises `DataFolderError` for a database of a newer format, this one or another with such a
    `state`, before anything of it is written: also what its log holds stays there for the release
    that wrote it."""
    if not path.exists() or not path.stat().st_size:
        return
    reader = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    with log_kept(path):
        try:
            row = reader.execute("SELECT format FROM state").fetchone()
        except sqlite3.Error:
            # Whatever else is wrong with it is told by who opens it.
            return
        finally:
            reader.close()
    if row is not None and isinstance(row[0], int) and row[0] > known:
        raise DataFolderError(newer(path, row[0], known))


def newer(path: Path, found: int, known: int) -> str:
    """What is told of a file of a newer release."""
    return (
        f"{path} was written by a newer release: it is of format {found}, and flowtally"
        f" {__version__} reads up to format {known}; use that release"
    )


def give_space_back(writer: sqlite3.Connection) -> None:
    """Returns free pages to the file system, once they are a good part of the file.

    Freed pages are used again by the next commits, so giving all of them back at once would only
    make the file breathe.
    """
    (free,) = writer.execute("PRAGMA freelist_count").fetchone()
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    if free > max(_FREE_PAGES_KEPT, pages // 4):
        # `execute` steps once and would free one page; `executescript` steps to the end.
        writer.executescript(f"PRAGMA incremental_vacuum({_FREE_PAGES_KEPT})")


@contextmanager
def log_kept(path: Path) -> Iterator[None]:
    """Keeps the connections that close meanwhile from bringing the log into the database.

    The last one to close would do that, and sync once more after a failed sync. The one that is
    opened here is the last instead, and it may not write.
    """
    last = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        # Until it has read something it takes no part in the log.
        try:
            last.execute("SELECT * FROM sqlite_schema LIMIT 1").fetchall()
        except sqlite3.Error as error:
            logger.warning("closing the journal may sync once more", exc_info=error)
        yield
    finally:
        last.close()
