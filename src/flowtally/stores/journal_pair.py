"""Opens the two files of a store behind the journal, and holds them against each other; and says
which state a copy of them is of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flowtally.errors import DamagedData, DataFolderError
from flowtally.ingest.journal import Journal
from flowtally.ingest.journal_snapshot import JournalSnapshot
from flowtally.model import BackupPoint
from flowtally.stores.folder import DataFolder


def open_both(
    folder: DataFolder, journal: Journal, other: Path, open_other: Callable[[], int]
) -> None:
    """Opens the journal and then the other file of a folder that is taken; `open_other` opens that
    and tells up to which batch it has everything.

    Raises `DamagedData` naming the file that is missing, foreign, or older than the other one:
    what one of them has let go of must be in the other; or `DataFolderError`.
    """
    journal_is_new = not folder.journal.exists() or folder.journal.stat().st_size == 0
    if journal_is_new and other.exists():
        raise DamagedData(f"{folder.journal} is missing, but {other} is there")
    try:
        journal.open()
        if not other.exists() and journal.discarded_through > 0:
            raise DamagedData(
                f"{other} is missing; it held all batches up to {journal.discarded_through}"
            )
        applied = open_other()
        if applied > journal.last_sequence:
            raise DamagedData(
                f"{folder.journal} has lost data: it ends at batch {journal.last_sequence}, but"
                f" {other} has all up to {applied}"
            )
        folder.sync()
    except OSError as error:
        raise DataFolderError(f"{folder.path} cannot be used: {error}") from error


def point_of(moment: JournalSnapshot, store: str, now_ms: int) -> BackupPoint:
    """The state of a copy: what the journal had at that moment, summed or not. The copy of the
    other file must have all that this one had let go of."""
    accepted = {line.arrival_hour: line.accepted for line in moment.accepted()}
    return BackupPoint(store, moment.folder_id, moment.last_sequence, now_ms, accepted)
