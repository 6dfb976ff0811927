"""Sums the `recent` rows of an arrival hour into its `base` rows, in one transaction.

An arrival hour is compacted by itself, so the work is bounded by what came in during one hour, and
only when its recent rows are a good part of its base rows: each row is then rewritten a number of
times that grows with the logarithm of the hour's size, not with its square. When nothing else is to
do a smaller part is enough, and an arrival hour that is over is compacted for good.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import duckdb

from flowtally.steps import OnStep
from flowtally.stores.duckdb.apply import roll_back

ROWS_MIN = 250_000
"""Fewer recent rows than this are read so quickly that compacting them is not worth a write."""
BASE_SHARE_MIN = 0.5
QUIET_S = 30.0
"""After this long without a write there is time for what is worth less."""
QUIET_BASE_SHARE_MIN = 0.05
"""Agents that post once a minute leave a quiet time in each: it must not rewrite the hour."""

_MERGE = """
CREATE TEMP TABLE merged AS
SELECT arrival_hour, hour, src_app, dest_app, vpc_id,
       SUM(bytes_rx) AS bytes_rx, SUM(bytes_tx) AS bytes_tx, SUM(records) AS records
FROM (SELECT * FROM base UNION ALL SELECT * FROM recent)
WHERE arrival_hour = ? GROUP BY ALL
"""
_REPLACE = (
    "DELETE FROM recent WHERE arrival_hour = ?",
    "DELETE FROM base WHERE arrival_hour = ?",
)
# Sorted, so that a read of one hour touches few of DuckDB's row groups.
_INSERT = "INSERT INTO base SELECT * FROM merged ORDER BY hour, src_app, dest_app, vpc_id"


@dataclass(slots=True)
class RowCounts:
    """The rows that each arrival hour has in each table; kept here, so no query is needed."""

    recent: Counter[int] = field(default_factory=Counter)
    base: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of(cls, connection: duckdb.DuckDBPyConnection) -> RowCounts:
        """Counts them."""
        counts = cls()
        for name, counter in (("recent", counts.recent), ("base", counts.base)):
            rows = connection.execute(
                f"SELECT arrival_hour, COUNT(*) FROM {name} GROUP BY 1"
            ).fetchall()
            counter.update(dict(rows))
        return counts

    @property
    def total(self) -> int:
        """All rows."""
        return self.recent.total() + self.base.total()

    def oldest(self) -> int | None:
        """The oldest arrival hour that has rows."""
        held = [hour for counter in (self.recent, self.base) for hour in counter if counter[hour]]
        return min(held, default=None)

    def due(self, quiet: bool, this_hour: int) -> int | None:
        """The arrival hour that most needs compaction, if any does."""
        due = [
            (rows, hour)
            for hour, rows in self.recent.items()
            if rows >= max(ROWS_MIN, BASE_SHARE_MIN * self.base[hour])
            or (quiet and rows and self._is_worth_a_quiet_time(hour, this_hour))
        ]
        return max(due)[1] if due else None

    def _is_worth_a_quiet_time(self, hour: int, this_hour: int) -> bool:
        return hour < this_hour or self.recent[hour] >= QUIET_BASE_SHARE_MIN * self.base[hour]


def compact(
    connection: duckdb.DuckDBPyConnection,
    arrival_hour: int,
    counts: RowCounts,
    on_step: OnStep,
) -> None:
    """Compacts one arrival hour; reads see the state before or after, which sum to the same."""
    connection.begin()
    try:
        connection.execute(_MERGE, [arrival_hour])
        for statement in _REPLACE:
            connection.execute(statement, [arrival_hour])
        [(inserted,)] = connection.execute(_INSERT).fetchall()
        connection.execute("DROP TABLE merged")
        on_step("compact.written")
        connection.commit()
    except BaseException:
        roll_back(connection)
        raise
    on_step("compact.committed")
    counts.recent.pop(arrival_hour, None)
    counts.base[arrival_hour] = inserted
