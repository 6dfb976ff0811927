"""A stream of records into batches with stable keys, sent by several connections at once.

The key of a batch is a hash of everything from the first record of the input to its own last one.
So the same input gives the same keys, and sending it again counts nothing twice; records that occur
twice in one input count twice; and an input that has grown at its end repeats the batches that were
full and adds the rest. Another batch size gives other keys: then the records count again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from flowtally.client.client import FlowClient
from flowtally.model import Receipt

_KEY_HEX_DIGITS = 40
_WAITING_PER_CONNECTION = 2


@dataclass(frozen=True, slots=True)
class KeyedBatch:
    """A JSON body, the key that names it, and where its records stood in the input, from 0."""

    body: bytes
    key: str
    first_record: int
    records: int


@dataclass(slots=True)
class Sent:
    """What has been sent so far."""

    records: int = 0
    batches: int = 0
    batches_repeated: int = 0
    body_bytes: int = 0


def keyed_batches(
    records: Iterable[bytes], batch_records: int, purpose: str = "send"
) -> Iterator[KeyedBatch]:
    """Batches of JSON records, in order. `purpose` keeps inputs of different kinds apart."""
    chain = hashlib.sha256(f"{purpose}:{batch_records}".encode())
    part: list[bytes] = []
    first = 0
    for record in records:
        part.append(record)
        if len(part) == batch_records:
            yield _keyed(chain, part, first)
            first += len(part)
            part = []
    if part:
        yield _keyed(chain, part, first)


def _keyed(chain: hashlib._Hash, part: list[bytes], first: int) -> KeyedBatch:
    body = b"[" + b",\n".join(part) + b"]"
    chain.update(body)
    return KeyedBatch(body, chain.hexdigest()[:_KEY_HEX_DIGITS], first, len(part))


def send_batches(
    client: FlowClient,
    batches: Iterable[KeyedBatch],
    connections: int,
    on_sent: Callable[[KeyedBatch, Receipt], None] = lambda *_: None,
) -> Sent:
    """Sends all batches; memory is bounded by a few batches a connection.

    Raises what `FlowClient.post` raises, for the first batch that could not be sent; the others
    that were under way are finished.
    """
    sent = Sent()
    under_way: dict[Future[Receipt], KeyedBatch] = {}

    def settle(done: Iterable[Future[Receipt]]) -> None:
        for future in done:
            batch = under_way.pop(future)
            receipt = future.result()
            sent.records += batch.records
            sent.batches += 1
            sent.batches_repeated += receipt.repeated
            sent.body_bytes += len(batch.body)
            on_sent(batch, receipt)

    with ThreadPoolExecutor(connections, thread_name_prefix="send") as pool:
        for batch in batches:
            under_way[pool.submit(client.post, batch.body, batch.key)] = batch
            if len(under_way) >= connections * _WAITING_PER_CONNECTION:
                settle(wait(under_way, return_when=FIRST_COMPLETED).done)
        settle(list(wait(under_way).done))
    return sent
