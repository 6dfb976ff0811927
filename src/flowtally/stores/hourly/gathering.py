"""What one results transaction takes in: pending batches, in order, merged by hour and flow.

Most flows come again and again, so what many batches say is small once it is summed. Batches are
added until the rows would weigh too much; an hour is then rewritten once for all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa

from flowtally.ingest.journal_rows import Pending
from flowtally.stores.hourly.parts import AMOUNTS, summed
from flowtally.stores.incoming import incoming_of
from flowtally.wire.fields import NAME_FIELDS

FLOWS_MAX = 400_000
"""Rows held before they are merged, or written: about 100 MB, and as much again to merge them."""
_GROUP = ("hour", "arrival_hour")
_KEYS = (*_GROUP, *NAME_FIELDS)


class Gathered:
    """Batches that follow each other in the journal. Not used again once its rows were taken."""

    def __init__(self) -> None:
        self.through = 0
        """The sequence number of the last batch; 0 where there is none."""
        self.batches: Counter[int] = Counter()
        """How many, by arrival hour."""
        self.last_sequences: dict[int, int] = {}
        """The last batch that touches each hour."""
        self._tables: list[pa.Table] = []

    @property
    def is_full(self) -> bool:
        """Whether merging did not make enough room for more."""
        return self._rows() > FLOWS_MAX // 2

    def add(self, entries: Sequence[Pending]) -> None:
        """Adds batches (no expiries), at least one entry of them."""
        incoming = incoming_of(entries)
        self.through = entries[-1].sequence
        for entry in entries:
            self.batches[entry.arrival_hour] += entry.batches
        self.last_sequences.update(
            (hour, revision.number) for hour, revision in incoming.revisions.items()
        )
        self._tables.append(incoming.table.select([*_KEYS, *AMOUNTS]))
        if self.is_full:
            self._tables = [summed(self._tables, _KEYS)]

    def rows_by_hour(self) -> Iterator[tuple[int, list[tuple[int, pa.Table]]]]:
        """Each hour with its rows by arrival hour, each table sorted and with a flow once."""
        rows = summed(self._tables, _KEYS) if self._tables else pa.table({})
        self._tables = []
        start, hour_now = 0, None
        arrivals: list[tuple[int, pa.Table]] = []
        for hour, arrival_hour, count in _groups(rows):
            if hour != hour_now and hour_now is not None:
                yield hour_now, arrivals
                arrivals = []
            hour_now = hour
            table = rows.slice(start, count).select([*NAME_FIELDS, *AMOUNTS])
            arrivals.append((arrival_hour, table))
            start += count
        if hour_now is not None:
            yield hour_now, arrivals

    def _rows(self) -> int:
        return sum(table.num_rows for table in self._tables)


def _groups(rows: pa.Table) -> Iterator[tuple[int, int, int]]:
    """Hour, arrival hour and number of rows, in the order of the rows, which are sorted."""
    if not rows.num_rows:
        return
    counted = rows.group_by(_GROUP, use_threads=False).aggregate([([], "count_all")])
    # Arrow's groups come in any order: two whose hashes are alike change places.
    counted = counted.sort_by([(name, "ascending") for name in _GROUP])
    columns = (counted[name].to_pylist() for name in (*_GROUP, "count_all"))
    yield from zip(*columns, strict=True)
