"""The journal: the local database that a batch is committed to before its POST is answered.

One SQLite database in WAL mode with synchronous=FULL. It holds the batch_ids (the idempotency
index), the tallies not yet passed on (`pending`), and what was accepted per arrival hour
(`ledger`); all three change in one transaction, so they agree whatever dies when. Every accepted
batch has a sequence number, which is never given twice.

Promises: `commit` returns after the sync. A failed sync ends all writing until the folder is opened
again. A damaged file is named and left as it is.
Leaves to others: what the pending tallies are passed on to (the applier), which thread calls
(`commit` and `tidy` from one thread at a time; the reads from any), and the folder's lock.

The tables are drawn in `docs/internals/data-folder.md`.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from flowtally import limits
from flowtally.clock import Age, Clock
from flowtally.errors import DamagedData, DataFolderError, KeyReused, NotAccepting
from flowtally.ingest.backlog import Backlog
from flowtally.ingest.journal_rows import (
    TIDY_ROWS,
    Known,
    NewBatches,
    Pending,
    add_to_ledger,
    find_known,
    forget_batch_ids,
    insert_expiry,
    read_pending,
)
from flowtally.ingest.journal_schema import (
    FORMAT,
    as_written,
    create_schema,
    give_space_back,
    integrity_faults,
    is_damage,
    log_kept,
    open_database,
    refuse_newer,
    state_of,
)
from flowtally.ingest.wal_scan import damage_in_log, log_of
from flowtally.model import MILLISECONDS_PER_HOUR, Account, Batch, Receipt
from flowtally.steps import OnStep, ignore
from flowtally.wire.blob import damage_in_blob

logger = logging.getLogger(__name__)

_CAN_RECOVER = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE)
"""A write that was refused is rolled back whole. Any other fault leaves doubt about the file."""


class Journal:
    """See the module. Construct, `open`, use, `close`."""

    def __init__(self, path: Path, clock: Clock, on_step: OnStep = ignore) -> None:
        self.path = path
        self.folder_id = ""
        self.last_sequence = 0
        """The newest sequence number that is durable."""
        self.discarded_through = 0
        """Everything up to this sequence number was passed on and deleted here."""
        self.failure: str | None = None
        """Why nothing is written any more, or until `resume`; None while all is well."""
        self.failure_is_final = False
        self._failure_told: str | None = None
        self.age = Age(clock)
        """What decides that something is too old."""
        self._clock = clock
        self._on_step = on_step
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._reader_lock = threading.Lock()
        self._applied_through = 0
        self._backlog = Backlog(limits.APPLY_BYTES_MAX)
        self._refused = self._refused_written = 0
        self._refused_lock = threading.Lock()

    @property
    def pending_bytes(self) -> int:
        """The size of the tallies that wait to be passed on."""
        return self._backlog.bytes

    def open(self) -> None:
        """Opens or creates the database and brings its log into it.

        Raises `DamagedData` naming what is wrong, or `DataFolderError` for a newer format.
        """
        try:
            fault = damage_in_log(self.path)
            if fault is not None:
                raise DamagedData(f"{log_of(self.path)} is damaged: {fault}")
            refuse_newer(self.path)
            writer = open_database(self.path)
            try:
                if state_of(writer) is None:
                    create_schema(writer, folder_id=uuid.uuid4().hex)
                self._fold_log(writer)
                self._load_state(writer)
                self._reader = open_database(self.path)
                self._reader.execute("PRAGMA query_only = ON")
            except BaseException:
                writer.close()
                raise
        except UnicodeDecodeError as error:
            # SQLite quotes its damaged schema in an error text that Python cannot decode.
            raise DamagedData(f"{self.path} is damaged: {error}") from error
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                raise DamagedData(f"{self.path} is damaged: {error}") from error
            raise DataFolderError(f"{self.path} cannot be opened: {error}") from error
        self._writer = writer

    def close(self) -> None:
        """Writes what can wait and closes. May be called twice."""
        if self._writer is not None:
            with suppress(NotAccepting):
                self.tidy()
        with log_kept(self.path) if self.failure_is_final else nullcontext():
            for connection in (self._reader, self._writer):
                if connection is not None:
                    connection.close()
        self._reader = self._writer = None

    def commit(self, batches: Sequence[Batch]) -> tuple[list[Receipt | KeyReused], Pending | None]:
        """Makes the batches durable together; see `FlowSink.write` for what that promises.

        Returns the answers in the order given, and the entry of the batches that were new, if any
        were. Raises `NotAccepting` where the transaction failed: then none of them is in, unless a
        failed sync left that open until the next start.
        """
        arrived_ms = self._clock.now_ms()
        answers: list[Receipt | KeyReused] = []
        refused_before = self._refused_unwritten()
        with self._transaction("store a batch") as cursor:
            self._on_step("commit.begun")
            known = find_known(cursor, [batch.batch_id for batch in batches if batch.keyed])
            new = NewBatches(arrived_ms, self.last_sequence)
            repeated, refused = 0, refused_before
            for batch in batches:
                if batch.keyed and batch.batch_id in known:
                    answer = known[batch.batch_id].answer(batch)
                    answers.append(answer)
                    repeated += isinstance(answer, Receipt)
                    refused += isinstance(answer, KeyReused)
                    continue
                new.add(batch)
                flows = len(batch.tally)
                if batch.keyed:
                    known[batch.batch_id] = Known(batch.fingerprint, batch.records, flows)
                answers.append(Receipt(batch.batch_id, batch.records, flows))
            entry = new.insert(cursor)
            arrival_hour = arrived_ms // MILLISECONDS_PER_HOUR
            add_to_ledger(cursor, arrival_hour, new.accepted, repeated, refused)
            discarded = self._discard_applied(cursor, new.sequence)
            self._on_step("commit.written")
        self._on_step("commit.synced")
        self._refused_written += refused_before
        self._note_committed(new.sequence, entry, discarded)
        return answers, entry

    def journal_expiry(self, expire_before: int) -> None:
        """Puts the decision to expire into the journal, in order with the batches."""
        arrived_ms = self._clock.now_ms()
        with self._transaction("journal an expiry") as cursor:
            sequence = self.last_sequence + 1
            entry = insert_expiry(cursor, sequence, arrived_ms, expire_before)
            discarded = self._discard_applied(cursor, sequence)
        self._note_committed(sequence, entry, discarded)
        self._on_step("expire.journalled")

    def _note_committed(self, sequence: int, entry: Pending | None, discarded: int) -> None:
        if entry is not None:
            self._backlog.committed(sequence, len(entry.tally), entry)
        self.last_sequence = sequence
        self.discarded_through = max(self.discarded_through, discarded)

    def applied(self, through: int) -> None:
        """Notes that all up to `through` is durable elsewhere; a later commit deletes it here.

        Deleting together with the next commit saves a sync. May be called beside all else, from
        one thread at a time.
        """
        self._applied_through = max(self._applied_through, through)
        self._backlog.passed_on(through)

    def tidy(self, batch_ids_keep_ms: int | None = None) -> bool:
        """Deletes what was applied and what is too old, and gives space back; True if more is left.

        One short transaction: commits wait for it, and are never kept waiting long.
        """
        refused = self._refused_unwritten()
        with self._transaction("tidy the journal") as cursor:
            if refused:
                add_to_ledger(cursor, self._clock.arrival_hour(), Account(), 0, refused)
            discarded = self._discard_applied(cursor, self.last_sequence)
            self._on_step("discard.written")
            forgotten = 0
            if batch_ids_keep_ms is not None:
                forgotten = forget_batch_ids(cursor, self.age.now_ms(), batch_ids_keep_ms)
        self._on_step("discard.committed")
        self._refused_written += refused
        self.discarded_through = max(self.discarded_through, discarded)
        with self._watched("give space back"):
            give_space_back(self._require_writer())
        return forgotten == TIDY_ROWS or discarded < self._applied_through

    def log_bytes(self) -> int:
        """The size of the write-ahead log."""
        wal = log_of(self.path)
        return wal.stat().st_size if wal.exists() else 0

    def fold_log(self) -> None:
        """Copies the log into the database as far as nobody is in the way; commits go on."""
        with self._reader_lock, self._watched("fold the log"):
            self._require_reader().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def empty_log(self) -> None:
        """Copies what is left of it and empties it. Commits wait meanwhile: `fold_log` first, and
        what is left is what was committed beside that."""
        with self._watched("empty the log"):
            self._fold_log(self._require_writer())

    def resume(self) -> bool:
        """Tries a small write after a refused one; True, and writing goes on, if it was taken.

        Never after a failed sync: what the disk holds is then unknown until it is read again.
        """
        if self.failure_is_final:
            return False
        was, self.failure = self.failure, None
        try:
            with self._transaction("try the disk") as cursor:
                cursor.execute("UPDATE state SET last_sequence = last_sequence")
        except NotAccepting:
            return False
        self._failure_told = None
        if was is not None:
            logger.warning("writing resumed", extra={"after": was})
        return True

    def count_refused(self, batches: int) -> None:
        """Counts refused batches; they reach the disk with the next commit or `tidy`."""
        with self._refused_lock:
            self._refused += batches

    def pending(self, after: int, tally_bytes_max: int | None = None) -> Sequence[Pending]:
        """What was accepted after `after`, oldest first: up to a size but at least one entry, or
        all of it. Raises `DamagedData` naming what cannot be read."""
        if tally_bytes_max is not None:
            held = self._backlog.held(after, tally_bytes_max)
            if held:
                return held
        with self._reading() as reader:
            found = read_pending(reader, after, self.last_sequence, tally_bytes_max)
        for entry in found:
            fault = None if entry.expire_before is not None else damage_in_blob(entry.tally)
            if fault is not None:
                raise DamagedData(f"{self.path} is damaged: {fault}, in batch {entry.sequence}")
        return found

    def check(self) -> list[str]:
        """SQLite's own full check: one line for each fault it finds. Reads the whole file."""
        with self._reader_lock:
            return integrity_faults(self._require_reader())

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._reader_lock:
            try:
                yield self._require_reader()
            except sqlite3.DatabaseError as error:
                raise DamagedData(f"{self.path} cannot be read: {error}") from error

    def _fold_log(self, writer: sqlite3.Connection) -> None:
        """Brings the log into the database and empties it, so that no old frame can be met again.

        This also makes durable what a failed sync of the last run may have left in memory only:
        all of it is written and synced anew.
        """
        writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _load_state(self, writer: sqlite3.Connection) -> None:
        state = state_of(writer)
        assert state is not None
        if state.format < FORMAT:
            raise DataFolderError(f"{self.path} was written before the first release")
        self.folder_id = state.folder_id
        self.last_sequence = state.last_sequence
        self.discarded_through = self._applied_through = state.discarded_through
        for row in writer.execute("SELECT sequence, LENGTH(tally) FROM pending ORDER BY sequence"):
            self._backlog.committed(*as_written(row, tuple[int, int], "what is pending"))

    @contextmanager
    def _transaction(self, purpose: str) -> Iterator[sqlite3.Cursor]:
        if self.failure is not None:
            raise NotAccepting(self.failure, retry_after_s=5)
        writer = self._require_writer()
        cursor = writer.cursor()
        try:
            cursor.execute("BEGIN IMMEDIATE")
            yield cursor
            cursor.execute("COMMIT")
        except sqlite3.Error as error:
            self._fail(purpose, error)
            _roll_back(writer)
            assert self.failure is not None
            raise NotAccepting(self.failure, retry_after_s=5) from error
        except BaseException:
            _roll_back(writer)
            raise
        finally:
            # The error's traceback would keep the failed statement, and that the connection: it
            # would close long after `close`, whenever the error is forgotten, and sync then.
            cursor.close()

    @contextmanager
    def _watched(self, purpose: str) -> Iterator[None]:
        """For writes beside the transactions: they sync too, and a failed one is as final."""
        try:
            yield
        except sqlite3.Error as error:
            self._fail(purpose, error)
            assert self.failure is not None
            raise NotAccepting(self.failure, retry_after_s=5) from error

    def _fail(self, purpose: str, error: sqlite3.Error) -> None:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        name = getattr(error, "sqlite_errorname", "")
        if code in _CAN_RECOVER:
            self.failure = f"the disk takes no more data ({name}); writing resumes when it does"
        else:
            self.failure = (
                f"the journal failed ({name}: {error}); nothing is accepted until the cause is"
                " mended and the service is started again"
            )
            self.failure_is_final = True
        if self.failure != self._failure_told:
            self._failure_told = self.failure
            found = f"{name}: {error}"
            extra = {"purpose": purpose, "error": found, "path": str(self.path)}
            logger.critical("journal failed", exc_info=error, extra=extra)

    def _discard_applied(self, cursor: sqlite3.Cursor, last_sequence: int) -> int:
        """Deletes what was passed on, and notes how far all has come; returns through where."""
        # However much was passed on at once: whoever waits for this commit waits for no more.
        through = min(self._applied_through, self.discarded_through + TIDY_ROWS)
        if through > self.discarded_through:
            cursor.execute("DELETE FROM pending WHERE sequence <= ?", (through,))
        # An idle service writes nothing.
        if (last_sequence, through) != (self.last_sequence, self.discarded_through):
            cursor.execute(
                "UPDATE state SET last_sequence = ?, discarded_through = ?",
                (last_sequence, through),
            )
        return through

    def _refused_unwritten(self) -> int:
        return self._refused - self._refused_written

    def _require_writer(self) -> sqlite3.Connection:
        if self._writer is None:
            raise NotAccepting("the journal is closed")
        return self._writer

    def _require_reader(self) -> sqlite3.Connection:
        if self._reader is None:
            raise NotAccepting("the journal is closed")
        return self._reader


def _roll_back(writer: sqlite3.Connection) -> None:
    """Ends a failed transaction, if SQLite has not done so itself."""
    try:
        if writer.in_transaction:
            writer.execute("ROLLBACK")
    except sqlite3.Error:
        logger.exception("rollback failed")
