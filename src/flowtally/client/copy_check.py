"""Whether a copy holds: every hour is read again from both sides, and both ledgers are asked.

Where the target was empty, its answers must be the source's. Where it held flows of its own, what
it holds more than before must be what was sent; what others sent to it meanwhile cannot be told
apart from that, so then it must be that or more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flowtally.client.copying import (
    Bytes,
    Copier,
    HourCopied,
    Names,
    flows_of,
    on_side,
    pieces_of,
    settled_ledger,
)
from flowtally.model import Account, Ledger

_SHOWN = 5
_NONE: Bytes = (0, 0)


@dataclass(frozen=True, slots=True)
class Found:
    """What was found: lines that say what does not hold, and lines that only explain."""

    faults: tuple[str, ...]
    notes: tuple[str, ...]


def wait_until_visible(copier: Copier, sleep: Callable[[float], object], attempts: int) -> Ledger:
    """Asks the target's ledger until nothing waits to be summed, or that often."""
    with on_side(copier.target, "target"):
        ledger = settled_ledger(copier.target)
        for _ in range(attempts):
            if not ledger.total().pending.records:
                break
            sleep(1.0)
            ledger = copier.target.ledger()
    return ledger


def check(copier: Copier, before: Ledger, after: Ledger) -> Found:
    """Compares all that was copied. `before` and `after` are the target's ledger."""
    faults: list[str] = []
    notes: list[str] = []
    if after.total().pending.records:
        faults.append(
            f"the target has {after.total().pending.records} records that its reads may not show"
            " yet; run the same again once it has summed them (on the hourly store: flowtally"
            " aggregate)"
        )
    if not after.balances:
        faults.append("the target's ledger does not balance: flowtally verify says where")
    others = _others(copier, before, after)
    if others and copier.compares_before:
        notes.append(
            f"the target took {others} batches of others meanwhile: every copied byte is in it, and"
            " what came beside cannot be told apart"
        )
    changed: list[int] = []
    for copied in copier.hours.values():
        with on_side(copier.source, "source"):
            read = copier.source.hour_read(copied.hour)
        if read.state != copied.state:
            changed.append(copied.hour)
            continue
        with on_side(copier.target, "target"):
            held = copier.target.hour_read(copied.hour).lines
        if copier.compares_before:
            differences = list(_added_wrongly(copied, read.lines, held, bool(others)))
        else:
            differences = [] if held == read.lines else list(_unequal(read.lines, held))
        faults += [f"hour {copied.hour}: {line}" for line in differences[:_SHOWN]]
        if len(differences) > _SHOWN:
            faults.append(f"hour {copied.hour}: and {len(differences) - _SHOWN} more flows")
    faults += _of_source(copier, changed)
    if not copier.compares_before:
        faults += _of_totals(copier, after)
    return Found(tuple(faults), tuple(notes))


def _others(copier: Copier, before: Ledger, after: Ledger) -> int:
    """Batches that the target accepted meanwhile beyond all that this run can have added."""
    added = after.total().accepted.batches - before.total().accepted.batches
    sent = copier.sent
    # A repeat was counted by an earlier run, or in an attempt of this one whose answer was lost.
    own = sent.batches - sent.batches_repeated + min(sent.batches_repeated, copier.target.retries)
    return max(added - own, 0)


def _of_source(copier: Copier, changed: list[int]) -> Iterator[str]:
    with on_side(copier.source, "source"):
        held = {one.hour for one in copier.source.hours()}
        total = copier.source.ledger().total()
    changed += sorted(held ^ copier.hours.keys())
    if changed:
        shown = ", ".join(map(str, changed[:_SHOWN])) + (", ..." if len(changed) > _SHOWN else "")
        yield (
            f"the source changed while it was copied (hour {shown}): what was sent is of before."
            " Stop what sends to the source, and copy into an empty target"
        )
        return
    live = total.accepted - total.expired
    copied = _copied(copier)
    if (live.bytes_rx, live.bytes_tx) != copied:
        yield (
            f"the source accepted {live.bytes_rx} and {live.bytes_tx} bytes, but its reads show"
            f" {copied[0]} and {copied[1]}: the rest is not summed there yet (on the hourly store:"
            " flowtally aggregate, then the same again)"
        )


def _of_totals(copier: Copier, after: Ledger) -> Iterator[str]:
    total = after.total()
    live: Account = total.accepted - total.expired
    copied = _copied(copier)
    if (live.bytes_rx, live.bytes_tx) != copied:
        yield (
            f"the target's ledger has {live.bytes_rx} and {live.bytes_tx} bytes, and"
            f" {copied[0]} and {copied[1]} were copied; where others send to it already, use"
            " --into-existing"
        )


def _copied(copier: Copier) -> Bytes:
    hours = copier.hours.values()
    return sum(one.bytes_rx for one in hours), sum(one.bytes_tx for one in hours)


def _unequal(source: bytes, target: bytes) -> Iterator[str]:
    wanted, found = flows_of(source), flows_of(target)
    for names in wanted.keys() | found.keys():
        if wanted.get(names) != found.get(names):
            yield _difference(names, wanted.get(names), found.get(names))


def _added_wrongly(copied: HourCopied, source: bytes, held: bytes, others: bool) -> Iterator[str]:
    """What was added to a flow is at least what was counted anew, and no more than all of it."""
    least: dict[Names, Bytes] = {}
    most: dict[Names, Bytes] = {}
    for piece in pieces_of(source):
        most[piece.names] = _sum(most.get(piece.names, _NONE), piece.amount)
        if piece.part not in copied.repeated:
            least[piece.names] = _sum(least.get(piece.names, _NONE), piece.amount)
    before, after = flows_of(copied.before or b""), flows_of(held)
    for names in before.keys() | after.keys() | most.keys():
        was, now = before.get(names, _NONE), after.get(names, _NONE)
        added = now[0] - was[0], now[1] - was[1]
        low, high = least.get(names, _NONE), most.get(names, _NONE)
        if names in most and names not in after:
            yield _difference(names, high, None)
        elif any(one < bound for one, bound in zip(added, low, strict=True)):
            yield _difference(names, low, added)
        elif not others and any(one > bound for one, bound in zip(added, high, strict=True)):
            yield _difference(names, high, added)


def _sum(one: Bytes, other: Bytes) -> Bytes:
    return one[0] + other[0], one[1] + other[1]


def _difference(names: Names, wanted: Bytes | None, found: Bytes | None) -> str:
    # A name may be hostile: what a terminal would act on is not printed.
    flow = ", ".join(name if name.isprintable() else ascii(name) for name in names)
    return f"{flow}: sent {_shown(wanted)}, found {_shown(found)}"


def _shown(found: Bytes | None) -> str:
    return "nothing" if found is None else f"{found[0]} and {found[1]} bytes"
