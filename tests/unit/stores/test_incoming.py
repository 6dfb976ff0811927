"""Pending tallies as rows: small and large ones together give the sums of a dict of integers."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowtally.ingest.journal_rows import Pending
from flowtally.model import Revision, Tally
from flowtally.stores import incoming
from flowtally.stores.incoming import incoming_of
from flowtally.wire.blob import encode_tally

NUMBERS = st.sampled_from([0, 1, 2**53 - 1, 2**64, 2**100])
FLOWS = st.tuples(
    st.sampled_from(["a", "b|c"]), st.sampled_from(["é", "d"]), st.just("v"), st.integers(0, 3)
)
TALLIES = st.dictionaries(FLOWS, st.tuples(NUMBERS, NUMBERS, st.integers(1, 9)), max_size=6)


@settings(max_examples=40, deadline=None)
@given(
    batches=st.lists(st.tuples(st.integers(7, 8), TALLIES), min_size=1, max_size=5),
    summed_rows_max=st.integers(0, 6),
)
def test_the_sums_and_revisions_are_those_of_the_batches(
    batches: list[tuple[int, dict[tuple[str, str, str, int], tuple[int, int, int]]]],
    summed_rows_max: int,
) -> None:
    pending, sums, revisions = [], Counter[tuple[object, ...]](), {}
    for sequence, (arrival_hour, flows) in enumerate(batches, start=1):
        tally = Tally({flow: list(row) for flow, row in flows.items()})
        pending.append(Pending(sequence, arrival_hour, 1000 - sequence, 1, encode_tally(tally)))
        for flow, row in flows.items():
            revisions[flow[3]] = Revision(sequence, 1000 - sequence)
            for column, number in enumerate(row):
                sums[(arrival_hour, *flow, column)] += number
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(incoming, "_SUMMED_ROWS_MAX", summed_rows_max)
        found = incoming_of(pending)
    found.table.validate(full=True)
    found_sums, rows = Counter[tuple[object, ...]](), Counter[int]()
    for row in found.table.to_pylist():
        rows[row["arrival_hour"]] += 1
        flow = tuple(row[name] for name in ("src_app", "dest_app", "vpc_id", "hour"))
        for column, name in enumerate(("bytes_rx", "bytes_tx", "records")):
            found_sums[(row["arrival_hour"], *flow, column)] += int(row[name])
    assert +found_sums == +sums
    assert found_sums.keys() == sums.keys()
    assert found.revisions == revisions
    assert +found.rows == rows


def test_many_small_batches_become_few_rows() -> None:
    """What many agents send each minute is added up before DuckDB sees it."""
    blob = encode_tally(Tally({("a", "b", "v", 1): [1, 2, 1]}))
    pending = [Pending(sequence, 5, 0, 1, blob) for sequence in range(1, 1001)]
    assert incoming_of(pending).table.num_rows == 1
