"""Proves that a database balances, without a service: opens it, checks it, changes no sum.

One of SQLite must be at rest, or its service is asked instead. One of PostgreSQL may be at work:
all is read in one snapshot.
"""

from __future__ import annotations

from pathlib import Path

from flowtally.errors import DamagedData
from flowtally.stores.sql.address import Address
from flowtally.stores.sql.reads import read_ledger
from flowtally.stores.sql.store import backend_of, open_tables
from flowtally.stores.verify_report import VerifyReport


async def verify_database(sql_url: str, data: Path) -> VerifyReport:
    """Verifies what a URL leads to. Raises `FolderInUse` where a service has the file, and
    `DataFolderError` where it cannot be read."""
    backend = backend_of(Address(sql_url, data))
    await open_tables(backend, create=False)
    try:
        faults = await backend.check()
        async with backend.reading.connect() as connection:
            ledger = await read_ledger(connection)
        return VerifyReport(ledger, tuple(faults))
    except backend.errors as error:
        raise DamagedData(
            f"{backend.address.shown} cannot be read: {backend.address.told(error)}"
        ) from None
    finally:
        await backend.close()
