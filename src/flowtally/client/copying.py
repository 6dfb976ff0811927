"""All sums of one running service into another, by what both say to everybody.

An hour is read whole, as of one revision, and cut into parts in the order of its flows. A part's
key is made of the source's instance, the hour and the part's number, and of nothing that the part
holds: the same part sent again is a repeat, and a part that has changed since is refused by the
target, where with a key of its own it would be counted beside what it has grown out of. A flow that
came since moves others from part to part, into some that the target has not seen. So an hour begins
with an empty batch too, whose body is another one for other sums: an hour that has changed is
refused before any part of it is sent.

Whether a target that holds flows holds them of an earlier run is asked of the target itself: a run
on an empty one begins with an empty batch under a key of the copy. The same key with another body,
as empty, is refused exactly where it did.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from flowtally.client.client import FlowClient, HourRead, Refused, Unreachable
from flowtally.client.client import UnexpectedAnswer as Unexpected
from flowtally.client.sending import BatchRefused, KeyedBatch, Sent, send_batches
from flowtally.errors import FlowtallyError, InvalidInput
from flowtally.limits import MIB
from flowtally.model import Ledger, Receipt
from flowtally.wire.media import BodyFormat
from flowtally.wire.sums_lines import SumsLine, encode_record, records_of, sums_line

PART_RECORDS = 10_000
PART_BYTES = 8 * MIB
_BEGIN, _ASK = b"[]", b"[ ]"
"""Two bodies of an empty batch, which are different ones under the same key."""
_BITS = str.maketrans("01", " \t")
"""A number as the inside of an empty batch."""
_DIGITS = 16

Names = tuple[str, str, str]
Bytes = tuple[int, int]


class CopyFailed(FlowtallyError):
    """It could not be copied, or what was copied does not hold. Says what to do."""


@dataclass(slots=True)
class HourCopied:
    """An hour of the source, as it was read, and what became of its parts."""

    hour: int
    state: str
    flows: int = 0
    bytes_rx: int = 0
    bytes_tx: int = 0
    parts: int = 0
    settled: int = 0
    whole: bool = False
    """Read to its end; `parts` is final."""
    repeated: set[int] = field(default_factory=set)
    """Parts that the target had counted before, or in an attempt whose answer was lost."""
    before: bytes | None = None
    """What the target held of the hour before; None where that was nothing."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A record of a part."""

    part: int
    names: Names
    amount: Bytes
    line: bytes


def pieces_of(lines: bytes) -> Iterator[Piece]:
    """The records of an hour, cut into parts by the hour's content alone."""
    part = records = size = 0
    for line in io.BytesIO(lines):
        sums = sums_line(line)
        for record in records_of(sums):
            text = encode_record(record)
            if records == PART_RECORDS or size + len(text) + 1 > PART_BYTES:
                part, records, size = part + 1, 0, 0
            records, size = records + 1, size + len(text) + 1
            yield Piece(part, sums.names, (record.bytes_rx, record.bytes_tx), text)


def flows_of(lines: bytes) -> dict[Names, Bytes]:
    """The sums of an hour by flow."""
    found: list[SumsLine] = [sums_line(line) for line in io.BytesIO(lines)]
    return {one.names: (one.bytes_rx, one.bytes_tx) for one in found}


class Copier:
    """`begin`, then `send`; what was sent stands in `hours` for the verification."""

    def __init__(
        self,
        source: FlowClient,
        target: FlowClient,
        into_existing: bool,
        on_hour: Callable[[HourCopied], object],
    ) -> None:
        self.source = source
        self.target = target
        self.hours: dict[int, HourCopied] = {}
        self.sent = Sent()
        self.compares_before = False
        """The target held flows of its own: only what was added can be compared."""
        self._into_existing = into_existing
        self._on_hour = on_hour
        self._key = ""

    def begin(self) -> str:
        """Looks at both sides; returns in words what will be done. Raises `CopyFailed` where the
        target may not be written to; no sum of it has changed then."""
        with on_side(self.source, "source"):
            source = self.source.instance()
        with on_side(self.target, "target"):
            target = self.target.instance()
        if self.source.url == self.target.url or (source is not None and source == target):
            raise CopyFailed("the source and the target are the same service")
        name = hashlib.sha256((source or self.source.url).encode()).hexdigest()
        self._key = f"copy-{name[:_DIGITS]}"
        with on_side(self.target, "target"):
            # What it has acknowledged and not summed yet is no less there.
            waiting = settled_ledger(self.target).total().pending.records
            held = self.target.hours()
            if not held and not waiting:
                self._knows_marker(_BEGIN)
                return "the target is empty"
            if self._into_existing:
                self.compares_before = True
                return f"the target holds {len(held)} hours already, which are added to"
            if self._knows_marker(_ASK):
                return "the target was begun on before: what it has is not counted again"
        flows = sum(one.flows for one in held)
        unsummed = f", and {waiting} records not yet summed" if waiting else ""
        raise CopyFailed(
            f"the target holds flows already ({flows} in {len(held)} hours{unsummed}), and not of"
            " an earlier run of this copy; copy into an empty one, or add to what it holds with"
            " --into-existing"
        )

    def _knows_marker(self, body: bytes) -> bool:
        """Whether the target knows the copy's marker with another body than this."""
        try:
            self.target.post(body, f"{self._key}-begin")
        except Refused as error:
            if error.is_kind("key-reused"):
                return True
            raise
        return False

    def send(self, connections: int) -> None:
        """Sends every hour. Raises `CopyFailed`; run again, it goes on."""
        try:
            send_batches(self.target, self._batches(), connections, self.sent, self._note)
        except BatchRefused as error:
            hour = int(error.batch.key.split("-")[2])
            raise self._refused(hour, error.refused, str(error)) from error
        except Unreachable as error:
            raise CopyFailed(
                f"the target: {error}; run the same again to go on, nothing counts twice"
            ) from error

    def _refused(self, hour: int, refused: Refused, detail: str) -> CopyFailed:
        if refused.is_kind("key-reused"):
            return CopyFailed(
                f"hour {hour}: the target has it, or a part of it, from an earlier run, and the"
                " source's sums have changed since. Nothing of it was counted now. Copy into an"
                " empty target, once nothing is sent to the source any more"
            )
        return CopyFailed(f"the target ({self.target.url}): hour {hour}: {detail}")

    def _batches(self) -> Iterator[KeyedBatch]:
        with on_side(self.source, "source"):
            held = self.source.hours()
        for one in held:
            with on_side(self.source, "source"):
                read = self.source.hour_read(one.hour)
                copied = HourCopied(one.hour, read.state)
            if self.compares_before:
                with on_side(self.target, "target"):
                    copied.before = self.target.hour_read(one.hour).lines
            self.hours[one.hour] = copied
            self._begin_hour(one.hour, read)
            with on_side(self.source, "source"):
                yield from self._parts(copied, read)
            copied.whole = True
            self._tell_if_done(copied)

    def _begin_hour(self, hour: int, read: HourRead) -> None:
        """Has the target refuse the hour where it was begun on with other sums."""
        digest = int.from_bytes(hashlib.sha256(read.lines).digest(), "big")
        body = f"[{digest:0256b}]".translate(_BITS).encode()
        batch = KeyedBatch(body, BodyFormat.JSON, f"{self._key}-{hour}-begin", 0, 0)
        try:
            receipt = self.target.post(batch.body, batch.key)
        except Refused as error:
            raise self._refused(hour, error, str(error)) from error
        self.sent.note(batch, receipt)

    def _parts(self, copied: HourCopied, read: HourRead) -> Iterator[KeyedBatch]:
        lines: list[bytes] = []
        names: Names | None = None
        for piece in pieces_of(read.lines):
            if piece.part > copied.parts:
                yield self._part(copied, lines)
                lines = []
            copied.flows += piece.names != names
            names = piece.names
            copied.bytes_rx += piece.amount[0]
            copied.bytes_tx += piece.amount[1]
            lines.append(piece.line)
        if lines:
            yield self._part(copied, lines)

    def _part(self, copied: HourCopied, lines: list[bytes]) -> KeyedBatch:
        key = f"{self._key}-{copied.hour}-{copied.parts}"
        first = copied.parts * PART_RECORDS
        copied.parts += 1
        return KeyedBatch(b"\n".join(lines), BodyFormat.NDJSON, key, first, len(lines))

    def _note(self, batch: KeyedBatch, receipt: Receipt) -> None:
        _, _, hour, part = batch.key.split("-")
        copied = self.hours[int(hour)]
        copied.settled += 1
        if receipt.repeated:
            copied.repeated.add(int(part))
        self._tell_if_done(copied)

    def _tell_if_done(self, copied: HourCopied) -> None:
        if copied.whole and copied.settled == copied.parts:
            self._on_hour(copied)


def settled_ledger(target: FlowClient) -> Ledger:
    """The target's ledger; what waits there to be summed is summed first, where that can be asked
    for."""
    ledger = target.ledger()
    if not ledger.total().pending.records:
        return ledger
    # An older release cannot be asked.
    with suppress(Refused):
        target.settle()
    return target.ledger()


@contextmanager
def on_side(client: FlowClient, side: str) -> Iterator[None]:
    """Says of an error which of the two it came from."""
    try:
        yield
    except (Refused, Unreachable, Unexpected, InvalidInput) as error:
        raise CopyFailed(f"the {side} ({client.url}): {error}") from error
