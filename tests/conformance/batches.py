"""What the conformance tests write and read: records as plain dicts, and batches made of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from flowtally.model import Batch, Tally
from flowtally.ports import FlowStore

HOUR_MS = 3_600_000
LARGEST = 2**53 - 1
LAST_HOUR = 2**31 - 1
HOSTILE_NAMES = (
    "a|b", "a", "b|c", "|", '"', "'", "\\", "a,b", "<img onerror>", "../..", "=1+1", "é", "e\u0301",
    "😀", "\ue000", "\uffff", "\U0010ffff", "z", "Z", " a", "a ", "%", "NULL", "x" * 256,
)  # fmt: skip

Record = dict[str, Any]


def record(
    src: str = "a", dest: str = "b", vpc: str = "v", hour: int = 1, rx: int = 1, tx: int = 2
) -> Record:
    """One record, as an agent would post it."""
    return {
        "src_app": src,
        "dest_app": dest,
        "vpc_id": vpc,
        "hour": hour,
        "bytes_rx": rx,
        "bytes_tx": tx,
    }


def batch_of(records: Sequence[Record], key: str | None = None) -> Batch:
    """The batch that a POST of these records becomes."""
    tally = Tally()
    for one in records:
        flow = (one["src_app"], one["dest_app"], one["vpc_id"], one["hour"])
        tally.add(flow, one["bytes_rx"], one["bytes_tx"])
    fingerprint = hashlib.sha256(json.dumps(records).encode()).digest()[:16]
    return Batch(key or "made-here", key is not None, fingerprint, tally, len(records))


async def rows_of(store: FlowStore, hour: int) -> list[Record]:
    """What a read of the hour answers once all that was acknowledged is in view, as the oracle
    writes it. Where a batch is visible on return, settling does nothing."""
    await store.settle()
    return await rows_as_they_are(store, hour)


async def rows_as_they_are(store: FlowStore, hour: int) -> list[Record]:
    """What a read of the hour answers now."""
    table = (await store.sums(hour)).table
    return [
        {**row, "bytes_rx": int(row["bytes_rx"]), "bytes_tx": int(row["bytes_tx"])}
        for row in table.to_pylist()
    ]


HOURS = (0, 1, LAST_HOUR)
"""The hours that generated records fall into: few, so that flows meet."""

records_strategy = st.lists(
    st.builds(
        record,
        src=st.sampled_from(HOSTILE_NAMES),
        dest=st.sampled_from(("b", "c")),
        vpc=st.sampled_from(("v", "a|b")),
        hour=st.sampled_from(HOURS),
        rx=st.sampled_from((0, 1, LARGEST)),
        tx=st.integers(0, LARGEST),
    ),
    max_size=12,
)
