"""The rows of the sql store give the sums of a dict of integers, and each value fits."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from flowtally.model import Batch, Tally
from flowtally.stores.sql.rows import COLUMNS, rows_of

NUMBERS = st.sampled_from([0, 1, 2**53 - 1, 2**62, 2**63 - 1, 2**63, 2**64, 2**66 + 1])
FLOWS = st.tuples(
    st.sampled_from(["a", "b|c"]), st.sampled_from(["é", "😀"]), st.just("v"), st.integers(0, 3)
)
TALLIES = st.dictionaries(FLOWS, st.tuples(NUMBERS, NUMBERS, st.integers(1, 9)), max_size=5)


@given(tallies=st.lists(TALLIES, max_size=3))
def test_they_add_up(tallies: list[dict[tuple[str, str, str, int], tuple[int, int, int]]]) -> None:
    wanted: dict[tuple[str, str, str, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    batches = []
    for rows in tallies:
        tally = Tally({flow: list(sums) for flow, sums in rows.items()})
        batches.append(Batch("x", False, b"f", tally, 1))
        for flow, sums in rows.items():
            wanted[flow] = [one + more for one, more in zip(wanted[flow], sums, strict=True)]
    found: dict[tuple[str, str, str, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    table = rows_of(batches, 7)
    assert tuple(table.column_names) == COLUMNS
    for row in table.to_pylist():
        assert row["arrival_hour"] == 7
        assert max(row["bytes_rx"], row["bytes_tx"]) < 2**63
        flow = (row["src_app"], row["dest_app"], row["vpc_id"], row["hour"])
        sums = (row["bytes_rx"], row["bytes_tx"], row["records"])
        found[flow] = [one + more for one, more in zip(found[flow], sums, strict=True)]
    assert found == wanted


def test_a_batch_makes_no_more_rows_than_it_has_records() -> None:
    """The largest there is: 100,000 records of 2^53-1 bytes, all of one flow."""
    records = 100_000
    tally = Tally({("a", "b", "v", 1): [records * (2**53 - 1), 0, records]})
    assert len(rows_of([Batch("x", False, b"f", tally, records)], 7)) <= 128
