"""Pending tallies as rows in columns: what a store takes in, or a read adds to what is in already.

Small tallies are summed here first: making a table of each costs more than adding up its flows, and
what many agents send each minute is many small batches of the same flows. A large one is handed on
as the columns that it is, without a loop over its rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from flowtally.ingest.journal_rows import Pending
from flowtally.model import Revision, Tally
from flowtally.wire import kernel
from flowtally.wire.blob import blob_hours, blob_rows, blobs_to_arrow, decode_tally, encode_tally

_SUMMED_ROWS_MAX = 128
"""Up to so many rows a tally is summed in Python: measured, the two ways then cost the same."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """Pending batches as rows.

    `table` has the columns of `blobs_to_arrow` and `arrival_hour` (int64); a flow may occur in
    several rows, unless they are `merged`. `rows` counts them by arrival hour. `revisions` has each
    hour that is touched.
    """

    table: pa.Table
    merged: bool
    rows: Counter[int]
    revisions: dict[int, Revision]


def incoming_of(pending: Sequence[Pending]) -> Incoming:
    """Reads the tallies of pending batches, at least one and in order, into rows."""
    merged = kernel.merge(
        [entry.tally for entry in pending], [entry.arrival_hour for entry in pending]
    )
    if merged is None:
        return _by_the_twin(pending)
    revisions = {
        hour: Revision(pending[last].sequence, pending[last].arrived_ms)
        for hour, last in merged.hours.items()
    }
    return Incoming(pa.table(merged), True, Counter(merged.arrival_hours), revisions)


def _by_the_twin(pending: Sequence[Pending]) -> Incoming:
    summed: dict[int, Tally] = {}
    parts: list[tuple[int, bytes]] = []
    revisions: dict[int, Revision] = {}
    for entry in pending:
        if blob_rows(entry.tally) > _SUMMED_ROWS_MAX:
            hours = blob_hours(entry.tally)
            parts.append((entry.arrival_hour, entry.tally))
        else:
            tally = decode_tally(entry.tally)
            hours = tally.hours()
            into = summed.setdefault(entry.arrival_hour, Tally())
            for flow, sums in tally:
                into.add(flow, *sums)
        revisions.update(dict.fromkeys(hours, Revision(entry.sequence, entry.arrived_ms)))
    parts += [(arrival_hour, encode_tally(tally)) for arrival_hour, tally in summed.items()]
    rows: Counter[int] = Counter()
    arrival_hours = []
    for arrival_hour, blob in parts:
        count = blob_rows(blob)
        rows[arrival_hour] += count
        arrival_hours.append(pa.repeat(pa.scalar(arrival_hour, pa.int64()), count))
    table = blobs_to_arrow([blob for _, blob in parts])
    return Incoming(
        table.append_column("arrival_hour", pa.chunked_array(arrival_hours)), False, rows, revisions
    )
