"""Names for the moments at which a crash would be most awkward.

Whatever changes the disk (the journal, what empties it, compaction, retention, snapshots) calls
`on_step(name)` between the steps of its work. In service that does nothing; the crash tests pass a
function that kills the process at one of these names, and so prove that every one is a safe place
to die.
"""

from __future__ import annotations

from collections.abc import Callable

OnStep = Callable[[str], None]

STEPS = (
    "commit.begun",  # the transaction is open, nothing is written
    "commit.written",  # all rows are written, COMMIT is not yet called
    "commit.synced",  # COMMIT has returned, nobody is answered
    "apply.read",  # pending tallies are read from the journal
    "apply.written",  # they are in DuckDB's transaction, which is not committed
    "apply.committed",  # DuckDB has committed, the journal does not know
    "discard.written",  # applied tallies are deleted in an open journal transaction
    "discard.committed",  # ... and that is committed
    "compact.written",  # base and recent rows are summed, not committed
    "compact.committed",
    "checkpoint.done",  # DuckDB's write-ahead log is in its database file
    "aggregate.read",  # pending tallies are read and merged, nothing is written
    "aggregate.written",  # they are in the results' transaction, which is not committed
    "aggregate.committed",  # the results have committed, the journal does not know
    "expire.journalled",  # the decision to expire is in the journal
    "expire.written",  # expired rows are deleted, not committed
    "expire.committed",
    "sql.migrated",  # the sql store's tables are made or changed, not committed
    "sql.copied",  # the rows of a commit are written, and the lock is not taken where others are
    "snapshot.captured",  # the memory store's state is captured, nothing is written
    "snapshot.written",  # ... and is in a file beside the last snapshot, not synced
    "snapshot.synced",  # it is synced, the last snapshot is still in its place
    "snapshot.renamed",  # it is in its place, the folder is not synced
)


def ignore(name: str) -> None:
    """The hook of a running service: does nothing."""
