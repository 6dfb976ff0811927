"""What a run takes in: every row stays in its hour."""

from __future__ import annotations

import pytest

from flowtally.ingest.journal_rows import Pending
from flowtally.model import Tally
from flowtally.stores.hourly.gathering import Gathered
from flowtally.wire.blob import encode_tally

ARRIVALS = range(498_500, 498_900)
"""Many: whether two groups change places hangs on the hash of both numbers together."""


@pytest.mark.parametrize(
    "hours",
    [(0, 1, 2, 23, 473_000, 2**31 - 1), tuple(range(498_700, 498_790))],
    ids=["few-and-far", "a-few-days"],
)
def test_every_hour_keeps_its_rows_whenever_they_came(hours: tuple[int, ...]) -> None:
    """As many rows of each as make it noticed, and each says which hour it is of."""
    flows = {
        (f"of-{hour}", f"db-{number}", "v", hour): [hour, number, 1]
        for hour in hours
        for number in range(2)
    }
    tally = encode_tally(Tally(flows))
    for arrival_hour in ARRIVALS:
        came = (arrival_hour, arrival_hour + 1)
        gathered = Gathered()
        gathered.add([Pending(number, one, 0, 1, tally) for number, one in enumerate(came, 1)])
        found = [
            (hour, arrived, row["src_app"], row["bytes_rx"])
            for hour, arrivals in gathered.rows_by_hour()
            for arrived, table in arrivals
            for row in table.to_pylist()
        ]
        assert found == [
            (hour, one, f"of-{hour}", hour) for hour in hours for one in came for _ in range(2)
        ]
