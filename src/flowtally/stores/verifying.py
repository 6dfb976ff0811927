"""Verifies a stopped folder, whichever store it is of; each store's own `verify` does the work."""

from __future__ import annotations

import asyncio
from pathlib import Path

from flowtally.clock import Clock
from flowtally.stores.verify_report import VerifyReport


def verify_store(store: str, folder: Path, clock: Clock, sql_url: str) -> VerifyReport:
    """Verifies what no service has open. Raises `DataFolderError`, `FolderInUse` where one runs.
    `sql_url` counts for the sql store alone; `{data}` in it stands for the folder."""
    if store == "sql":
        from flowtally.stores.sql.verify import verify_database

        return asyncio.run(verify_database(sql_url, folder))
    if store == "memory":
        from flowtally.stores.memory_snapshot import verify_snapshot

        return VerifyReport(verify_snapshot(folder))
    if store == "hourly":
        from flowtally.stores.hourly import files

        return files.verify_folder(folder, clock)
    from flowtally.stores.duckdb.verify import verify_folder

    return verify_folder(folder, clock)
