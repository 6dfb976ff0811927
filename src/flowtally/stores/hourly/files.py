"""Both files of a folder: opened and held against each other, verified, and aggregated, while no
service has them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow.compute as pc

from flowtally.clock import Clock
from flowtally.errors import DamagedData, DataFolderError
from flowtally.ingest.journal import Journal
from flowtally.ingest.journal_schema import integrity_faults, refuse_newer
from flowtally.ingest.journal_snapshot import journal_snapshot
from flowtally.model import Account, Ledger
from flowtally.steps import ignore
from flowtally.stores.folder import DataFolder
from flowtally.stores.hourly.hour_parts import read_part
from flowtally.stores.hourly.parts import account_of, flows_of
from flowtally.stores.hourly.reads import PartLine, account_noted, ledger_from, lines_by_hour
from flowtally.stores.hourly.results import ALL, FORMAT, Results, state_of
from flowtally.stores.hourly.run import Runner
from flowtally.stores.journal_pair import open_both
from flowtally.stores.verify_report import VerifyReport

STORE = "hourly"
_YES = (True, None)
"""That all of nothing are in order is null to Arrow."""


def open_files(folder: DataFolder, journal: Journal, results: Results) -> None:
    """Opens both files of a folder that is taken; see `open_both`."""

    def open_results() -> int:
        results.open(journal.folder_id, journal.discarded_through)
        return state_of(results.writer).applied

    # Before the journal is opened, which brings its log into it.
    refuse_newer(folder.results, FORMAT)
    open_both(folder, journal, folder.results, open_results)


@contextmanager
def stopped_folder(path: Path, clock: Clock) -> Iterator[tuple[Journal, Results]]:
    """Opens a folder that no service has. Raises `FolderInUse` where one does."""
    folder = DataFolder(path, STORE)
    if not folder.results.exists():
        raise DataFolderError(f"{path} is not a data folder of the store {STORE}")
    journal, results = Journal(folder.journal, clock), Results(folder.results)
    folder.open(create=False)
    try:
        open_files(folder, journal, results)
        yield journal, results
    finally:
        results.close()
        journal.close()
        folder.close()


def aggregate_folder(path: Path, clock: Clock) -> int:
    """Aggregates all that waits in a stopped folder; returns how many batches that were. Nothing
    is dropped for its age: that is decided by the service that has the folder."""
    with stopped_folder(path, clock) as (journal, results):
        runner = Runner(journal, results, clock, ignore)
        runner.load()
        before = runner.applied
        try:
            runner.run(journal.last_sequence, lambda: None)
            results.fold(emptied=True)
        except sqlite3.Error as error:
            raise DataFolderError(f"{results.path} cannot be written: {error}") from error
        return runner.applied - before


def verify_folder(path: Path, clock: Clock) -> VerifyReport:
    """Proves that a stopped folder balances: opens it, checks it, changes no sum.

    Raises `FolderInUse` where a service has it (ask that one), `DamagedData` naming a file that
    cannot be opened, and `DataFolderError` where there is no such folder.
    """
    with stopped_folder(path, clock) as (journal, results):
        faults = [f"{journal.path}: {fault}" for fault in journal.check()]
        ledger = Ledger()
        try:
            with journal_snapshot(journal.path) as moment, results.reading() as reader:
                faults += [f"{results.path}: {fault}" for fault in check_results(reader)]
                ledger = ledger_from(reader, moment)
        except DamagedData as error:
            faults.append(str(error))
        except sqlite3.Error as error:
            faults.append(f"{results.path}: {error}")
        return VerifyReport(ledger, tuple(faults))


def check_results(reader: sqlite3.Connection) -> Iterator[str]:
    """SQLite's own full check, and every part: whole, in order, and what the database says of it.
    A line for each fault."""
    yield from integrity_faults(reader)
    for hour, arrivals in lines_by_hour(reader):
        for lines in arrivals.values():
            for fault in _faults_of(reader, lines):
                yield f"hour {hour}: {fault}"
        accounts = {key: account_noted(lines) for key, lines in arrivals.items()}
        served = accounts.pop(ALL, None)
        if served is not None and served != sum(accounts.values(), Account()):
            yield f"hour {hour}: what is served is not the sum of its arrival hours"
        if served is None and len(accounts) > 1:
            yield f"hour {hour}: the sum of its arrival hours is missing"


def _faults_of(reader: sqlite3.Connection, lines: Sequence[PartLine]) -> Iterator[str]:
    """What is wrong with parts that follow each other."""
    last = ""
    for line in lines:
        try:
            table = read_part(reader, line.part)
        except DamagedData as error:
            yield str(error)
            continue
        if (table.num_rows, account_of(table)) != (line.flows, line.account):
            yield "a part does not hold what is noted of it"
        flows = flows_of(table)
        if not (last < flows[0].as_py() and pc.all(pc.less(flows[:-1], flows[1:])).as_py() in _YES):
            yield "flows are out of order, or come twice"
        last = flows[-1].as_py()
