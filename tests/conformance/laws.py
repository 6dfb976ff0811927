"""The laws of summing, as properties that every store keeps against the oracle."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowtally.clock import ManualClock
from flowtally.model import Receipt
from flowtally.ports import FlowStore
from tests.conformance.batches import HOURS, Record, batch_of, records_strategy, rows_of
from tests.conformance.subjects import Subject
from tests.oracle import Oracle


class StoreLaws:
    """Subclass, and name the subject."""

    subject: Subject

    @given(
        records=records_strategy,
        cuts=st.lists(st.integers(0, 12), max_size=4),
        grouped=st.booleans(),
        data=st.data(),
    )
    def test_any_split_and_order_gives_equal_sums(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        records: list[Record],
        cuts: list[int],
        grouped: bool,
        data: st.DataObject,
    ) -> None:
        """Written one by one or together, with a key or without."""
        oracle = Oracle()
        oracle.post(records)
        parts = _split(records, cuts)
        keys = data.draw(st.lists(st.booleans(), min_size=len(parts), max_size=len(parts)))
        batches = [
            batch_of(part, f"part-{index}" if keyed else None)
            for index, (part, keyed) in enumerate(zip(parts, keys, strict=True))
        ]
        order = data.draw(st.permutations(batches))

        async def story(store: FlowStore, clock: ManualClock) -> None:
            for group in [order] if grouped else [[batch] for batch in order]:
                await store.write(group)
            await assert_holds(store, oracle)

        self.subject.run(tmp_path_factory.mktemp("law"), story)

    @given(
        records=records_strategy,
        cuts=st.lists(st.integers(0, 12), max_size=4),
        data=st.data(),
    )
    def test_retries_that_settle_count_each_batch_once(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        records: list[Record],
        cuts: list[int],
        data: st.DataObject,
    ) -> None:
        """Each batch is sent as often as it likes, within a group and across groups: whatever
        the senders did, what is stored is what they meant to send."""
        oracle = Oracle()
        oracle.post(records)
        batches = [
            batch_of(part, f"part-{index}") for index, part in enumerate(_split(records, cuts))
        ]
        again = data.draw(st.lists(st.sampled_from(batches), max_size=6))
        sent = data.draw(st.permutations(batches + again))
        half = data.draw(st.integers(0, len(sent)))

        async def story(store: FlowStore, clock: ManualClock) -> None:
            answers = [*await store.write(sent[:half]), *await store.write(sent[half:])]
            first = [one for one in answers if isinstance(one, Receipt) and not one.repeated]
            assert sorted(one.batch_id for one in first) == sorted(
                batch.batch_id for batch in batches
            )
            assert (await store.ledger()).total().batches_repeated == len(again)
            await assert_holds(store, oracle)

        self.subject.run(tmp_path_factory.mktemp("law"), story)


def _split(records: list[Record], cuts: list[int]) -> list[list[Record]]:
    edges = sorted({0, len(records), *(min(cut, len(records)) for cut in cuts)})
    return [records[start:end] for start, end in pairwise(edges)] or [[]]


async def assert_holds(store: FlowStore, oracle: Oracle) -> None:
    """Everything that can be read of the store is what the oracle says."""
    for hour in HOURS:
        assert await rows_of(store, hour) == oracle.hour(hour)
    assert [(one.hour, one.flows, one.bytes_rx, one.bytes_tx) for one in await store.hours()] == [
        (
            hour,
            len(rows := oracle.hour(hour)),
            sum(row["bytes_rx"] for row in rows),
            sum(row["bytes_tx"] for row in rows),
        )
        for hour in oracle.hours()
    ]
    ledger = await store.ledger()
    assert ledger.balances, ledger
    sent = [sum(sums[column] for sums in oracle.sums.values()) for column in (0, 1)]
    held = ledger.total().accepted - ledger.total().expired
    assert [held.bytes_rx, held.bytes_tx] == sent
