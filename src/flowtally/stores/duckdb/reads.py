"""Reads, each from one snapshot: DuckDB's rows and, where it lags, the pending tallies beside them.

The order is what makes it exact. The journal is read first and DuckDB afterwards: what the journal
has already let go of was in DuckDB before, and what both hold is told apart by `applied`, which is
read in DuckDB's own snapshot. So a batch is in the answer once, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb

from flowtally import limits
from flowtally.ingest.journal_rows import AcceptedLine, Pending
from flowtally.ingest.journal_snapshot import journal_snapshot
from flowtally.model import Account, HourSummary, Ledger, Revision, Sums
from flowtally.stores.duckdb.database import SUMS, Database, applied_of
from flowtally.stores.incoming import incoming_of
from flowtally.stores.journal_ledger import ledger_of
from flowtally.wire import kernel

_ROWS = "SELECT arrival_hour, hour, src_app, dest_app, vpc_id, bytes_rx, bytes_tx, records"
_PENDING_ROWS = (
    f"{_ROWS.replace('bytes_rx', 'bytes_rx::HUGEINT').replace('bytes_tx', 'bytes_tx::HUGEINT')}"
    " FROM pending_rows"
)


class Snapshot:
    """One moment of the store, through one cursor."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, pending: Sequence[Pending]) -> None:
        self._cursor = cursor
        self.applied = applied_of(cursor)
        self.pending = [
            entry
            for entry in pending
            if entry.sequence > self.applied and entry.expire_before is None
        ]
        self._rows = SUMS
        self._newer: dict[int, Revision] = {}
        if self.pending:
            incoming = incoming_of(self.pending)
            self._newer = incoming.revisions
            cursor.register("pending_rows", incoming.table)
            self._rows = f"({_ROWS} FROM {SUMS} UNION ALL {_PENDING_ROWS})"

    def revision(self, hour: int) -> Revision:
        """How the hour stands in this snapshot."""
        if hour in self._newer:
            return self._newer[hour]
        rows = self._cursor.execute(
            "SELECT revision, changed_ms FROM hours WHERE hour = ?", [hour]
        ).fetchall()
        if not rows:
            rows = self._cursor.execute("SELECT expired_revision, expired_ms FROM state").fetchall()
        [(number, changed_ms)] = rows
        return Revision(number, changed_ms if number else None)

    def sums(self, hour: int) -> Sums:
        """The sums of one hour. Where the kernel is, it sums and sorts DuckDB's rows: in the order
        of three texts DuckDB takes ten times as long as to find them."""
        columns = "src_app, dest_app, vpc_id, hour::BIGINT AS hour"
        of_hour = f"FROM {self._rows} WHERE hour = ?"
        revision = self.revision(hour)
        rows = self._cursor.sql(
            f"SELECT {columns}, bytes_rx, bytes_tx {of_hour}", params=[hour]
        ).to_arrow_table()
        summed = kernel.sum_rows(hour, revision, rows)
        if summed is not None:
            return summed
        table = self._cursor.sql(
            f"SELECT {columns}, SUM(bytes_rx) AS bytes_rx, SUM(bytes_tx) AS bytes_tx {of_hour}"
            " GROUP BY ALL ORDER BY src_app, dest_app, vpc_id",
            params=[hour],
        ).to_arrow_table()
        return Sums(hour, revision, table)

    def hours(self, counted: Mapping[int, HourSummary]) -> dict[int, HourSummary]:
        """The hours held, in order. Only those are counted that were not at their revision: to
        count all flows takes seconds where there are millions."""
        revisions = {
            hour: Revision(number, changed_ms)
            for hour, number, changed_ms in self._cursor.execute("SELECT * FROM hours").fetchall()
        }
        revisions.update(self._newer)
        found = {
            hour: counted[hour]
            for hour, revision in revisions.items()
            if hour in counted and counted[hour].revision == revision
        }
        missing = [hour for hour in revisions if hour not in found]
        if missing:
            rows = self._cursor.execute(
                f"""
                SELECT hour, COUNT(*), SUM(records), SUM(bytes_rx), SUM(bytes_tx) FROM (
                    SELECT hour, src_app, dest_app, vpc_id, SUM(records) AS records,
                           SUM(bytes_rx) AS bytes_rx, SUM(bytes_tx) AS bytes_tx
                    FROM {self._rows}
                    {"WHERE hour IN (SELECT UNNEST(?::INTEGER[]))" if found else ""} GROUP BY ALL
                ) GROUP BY hour
                """,
                [missing] if found else [],
            ).fetchall()
            for hour, flows, *sums in rows:
                records, rx, tx = map(int, sums)
                found[hour] = HourSummary(hour, flows, records, rx, tx, revisions[hour])
        return dict(sorted(found.items()))

    def ledger(self, accepted: Sequence[AcceptedLine]) -> Ledger:
        """The account. Everything is of one moment only if nothing is applied between the reading
        of the journal and this: the applier sees to it (`run_between`)."""
        summed = {
            arrival_hour: Account(0, int(records), int(rx), int(tx))
            for arrival_hour, records, rx, tx in self._cursor.execute(
                "SELECT arrival_hour, SUM(records), SUM(bytes_rx), SUM(bytes_tx)"
                f" FROM {SUMS} GROUP BY arrival_hour"
            ).fetchall()
        }
        expired: dict[int, Account] = {}
        for row in self._cursor.execute("SELECT * FROM ledger").fetchall():
            arrival_hour, batches_summed, *gone = row
            summed[arrival_hour] = summed.get(arrival_hour, Account()) + Account(batches_summed)
            expired[arrival_hour] = Account(*gone)
        return ledger_of(accepted, summed, self._pending_accounts(), expired)

    def _pending_accounts(self) -> dict[int, Account]:
        accounts: dict[int, Account] = {}
        for entry in self.pending:
            so_far = accounts.get(entry.arrival_hour, Account())
            accounts[entry.arrival_hour] = so_far + Account(entry.batches)
        if self.pending:
            rows = self._cursor.execute(
                "SELECT arrival_hour, SUM(records), SUM(bytes_rx::HUGEINT), SUM(bytes_tx::HUGEINT)"
                " FROM pending_rows GROUP BY arrival_hour"
            ).fetchall()
            for arrival_hour, records, rx, tx in rows:
                accounts[arrival_hour] += Account(0, int(records), int(rx), int(tx))
        return accounts


@contextmanager
def snapshot(database: Database, pending: Sequence[Pending]) -> Iterator[Snapshot]:
    """Opens a snapshot. `pending` must have been read from the journal before, not after."""
    with database.reading() as cursor:
        cursor.begin()
        yield Snapshot(cursor, pending)


def ledger_now(journal: Path, database: Database, applied: int) -> Ledger:
    """The account of an open journal and all that DuckDB has; nothing may be applied meanwhile.
    Raises `DamagedData` and `duckdb.Error`."""
    # Both of one moment: a commit between the two would be accepted and nowhere else.
    with journal_snapshot(journal) as moment:
        pieces = moment.pending(applied, limits.APPLY_BYTES_MAX)
        pending = [entry for piece in pieces for entry in piece]
        accepted = moment.accepted()
    with snapshot(database, pending) as now:
        return now.ledger(accepted)
