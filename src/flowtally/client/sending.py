"""A stream of entries into batches with stable keys, sent by several connections at once.

An *entry* is what stood in the input (a record, or a line of a log), and the record made of it, if
any. The key of a batch is a hash of everything from the input's first entry to the batch's last
one. So the same input gives the same keys, and sending it again counts nothing twice; entries that
occur twice in one input count twice; and an input that has grown at its end repeats the batches
that were full. Three things give other keys, so that the records count again: another batch size,
another `key_prefix`, and a last batch that was not full and has grown since (`full_only` leaves it
for the next time). The service remembers keys for `batch_ids_keep_hours`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from flowtally.client.client import FlowClient, Refused
from flowtally.errors import FlowtallyError
from flowtally.limits import MIB
from flowtally.model import Receipt
from flowtally.wire.media import BodyFormat

Entry = tuple[bytes, bytes | None]
_KEY_HEX_DIGITS = 40
_WAITING_PER_CONNECTION = 2
_BATCH_BYTES_MAX = 8 * MIB
"""A batch ends here however many records it may have: half of what the service takes."""
_FAULTS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class KeyedBatch:
    """A body, the key that names it, and where its records stood in the input, from 0."""

    body: bytes
    form: BodyFormat
    key: str
    first_record: int
    records: int


@dataclass(slots=True)
class Sent:
    """What has been sent so far; it grows while batches are sent."""

    records: int = 0
    batches: int = 0
    batches_repeated: int = 0
    records_repeated: int = 0
    body_bytes: int = 0

    def note(self, batch: KeyedBatch, receipt: Receipt) -> None:
        """Adds a batch that was acknowledged."""
        self.records += batch.records
        self.batches += 1
        self.body_bytes += len(batch.body)
        if receipt.repeated:
            self.batches_repeated += 1
            self.records_repeated += batch.records


class BatchRefused(FlowtallyError):
    """The service will never count this batch. The message names the input's records, from 1."""

    def __init__(self, batch: KeyedBatch, refused: Refused) -> None:
        last = batch.first_record + batch.records
        lines = [f"records {batch.first_record + 1} to {last}: {refused}"]
        for fault in refused.problem.get("errors", ())[:_FAULTS_SHOWN]:
            _, _, pointer = str(fault.get("pointer", "")).partition("/")
            index, _, where = pointer.partition("/")
            if index.isdigit():
                where = f"record {batch.first_record + int(index) + 1} {where}".rstrip()
            lines.append(f"  {where}: {fault.get('detail')}")
        super().__init__("\n".join(lines))
        self.batch = batch
        self.refused = refused


def keyed_batches(
    entries: Iterable[Entry],
    batch_entries: int,
    purpose: str,
    form: BodyFormat = BodyFormat.JSON,
    full_only: bool = False,
) -> Iterator[KeyedBatch]:
    """Batches in the entries' order. `purpose` keeps inputs of different kinds apart."""
    chain = hashlib.sha256(f"{purpose}\n{form.media_type}\n{batch_entries}\n".encode())
    part: list[Entry] = []
    part_bytes = first = 0
    for entry in entries:
        # Decided by the input alone, so that the same input is always cut at the same places.
        if part and (len(part) == batch_entries or part_bytes + len(entry[0]) > _BATCH_BYTES_MAX):
            batch = _keyed(chain, part, first, form)
            first += batch.records
            part, part_bytes = [], 0
            if batch.records:
                yield batch
        part.append(entry)
        part_bytes += len(entry[0])
    if part and (len(part) == batch_entries or not full_only):
        batch = _keyed(chain, part, first, form)
        if batch.records:
            yield batch


def _keyed(chain: hashlib._Hash, part: list[Entry], first: int, form: BodyFormat) -> KeyedBatch:
    chain.update(b"%d\n" % len(part))
    chain.update(b"\n".join(stood for stood, _ in part))
    records = [record for _, record in part if record is not None]
    body = b"\n".join(records) if form is BodyFormat.NDJSON else b"[" + b",".join(records) + b"]"
    return KeyedBatch(body, form, chain.hexdigest()[:_KEY_HEX_DIGITS], first, len(records))


def send_batches(
    client: FlowClient,
    batches: Iterable[KeyedBatch],
    connections: int,
    sent: Sent,
    on_sent: Callable[[KeyedBatch, Receipt], None] = lambda *_: None,
) -> None:
    """Sends all batches and adds them to `sent`; memory is bounded by a few batches a connection.

    The first batch goes alone: what is wrong with all of them is found before others are counted.

    Raises `BatchRefused` or `Unreachable` for a batch that could not be sent, and what reading the
    batches raises. Then the requests under way are still waited for, but nothing is tried again.
    """
    under_way: dict[Future[Receipt], KeyedBatch] = {}
    under_way_max = 1

    def settle(done: Iterable[Future[Receipt]]) -> None:
        # What was counted first, so that an error leaves none of it out of `sent`.
        for future in sorted(done, key=lambda one: one.exception() is not None):
            batch = under_way.pop(future)
            try:
                receipt = future.result()
            except Refused as error:
                raise BatchRefused(batch, error) from error
            sent.note(batch, receipt)
            on_sent(batch, receipt)

    with ThreadPoolExecutor(connections, thread_name_prefix="send") as pool:
        try:
            for batch in batches:
                future = pool.submit(client.post, batch.body, batch.key, batch.form)
                under_way[future] = batch
                if len(under_way) >= under_way_max:
                    settle(wait(under_way, return_when=FIRST_COMPLETED).done)
                    under_way_max = connections * _WAITING_PER_CONNECTION
            while under_way:
                settle(wait(under_way, return_when=FIRST_COMPLETED).done)
        except BaseException:
            client.abandon()
            pool.shutdown(cancel_futures=True)
            for future, batch in under_way.items():
                if not future.cancelled() and future.exception() is None:
                    sent.note(batch, future.result())
            raise
