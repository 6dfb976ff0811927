"""Proves that a data folder balances, without a service: opens it, checks it, changes no sum."""

from __future__ import annotations

from pathlib import Path

import duckdb

from flowtally.clock import Clock
from flowtally.errors import DamagedData, DataFolderError
from flowtally.ingest.journal import Journal
from flowtally.model import Ledger
from flowtally.stores.duckdb.database import Database, applied_of
from flowtally.stores.duckdb.reads import ledger_now
from flowtally.stores.duckdb.store import open_files
from flowtally.stores.folder import DataFolder
from flowtally.stores.verify_report import VerifyReport


def verify_folder(path: Path, clock: Clock) -> VerifyReport:
    """Verifies a stopped folder.

    Raises `FolderInUse` where a service has it (ask that one), `DamagedData` naming a file that
    cannot be opened, and `DataFolderError` where there is no data folder.
    """
    folder = DataFolder(path)
    if not folder.journal.exists() and not folder.sums.exists():
        raise DataFolderError(f"{path} is not a data folder of flowtally: it has no journal.sqlite")
    journal, database = Journal(folder.journal, clock), Database(folder)
    folder.open(create=False)
    try:
        open_files(folder, journal, database)
        faults = [f"{folder.journal}: {fault}" for fault in journal.check()]
        faults += [f"{folder.sums}: {fault}" for fault in database.check()]
        ledger = Ledger()
        try:
            ledger = ledger_now(journal.path, database, applied_of(database.writer))
        except DamagedData as error:
            faults.append(str(error))
        except duckdb.Error as error:
            faults.append(f"{folder.sums}: {str(error).splitlines()[0]}")
        return VerifyReport(ledger, tuple(faults))
    finally:
        database.close()
        journal.close()
        folder.close()
