"""AWS VPC flow log records, versions 2 to 5, into records.

The first line names the fields, in any order, as files in S3 have it; without one the default
format of version 2 is taken. NODATA and SKIPDATA lines hold no traffic. The hour is the start of
the capture window, in hours since 1970.

A flow log has one line for each direction. `src_app` is the side that opened the connection: the one
with the higher port, because clients use ephemeral ports; with equal or missing ports, the source
as logged. What it sent is bytes_tx, what came back is bytes_rx.

Fields: https://docs.aws.amazon.com/vpc/latest/userguide/flow-log-records.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from flowtally.errors import InvalidInput
from flowtally.importers.names import Names
from flowtally.wire.fields import RECORD_FIELDS

DEFAULT_FIELDS = (
    "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start"
    " end action log-status"
).split()
_NEEDED = ("srcaddr", "dstaddr", "bytes", "start")
_NO_TRAFFIC = ("NODATA", "SKIPDATA")
_SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Rules:
    """What to take, and how to name it."""

    names: Names = field(default_factory=Names)
    action: str = "ACCEPT"
    """ACCEPT, REJECT or ALL."""
    vpc_id: str = "unknown"
    """For lines that have no vpc-id: version 2 does not."""
    by_port: bool = True
    """Whether the opening side is told by its port, or is the source as logged."""


@dataclass(slots=True)
class Summary:
    """What was read and what became of it."""

    lines: int = 0
    records: int = 0
    addresses_mapped: int = 0
    addresses_unmapped: int = 0
    skipped: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        skipped = ", ".join(
            f"{count} {why}" for why, count in sorted(self.skipped.items())
        )
        return (
            f"{self.lines} lines read, {self.records} records made, skipped: {skipped or 'none'};"
            f" addresses: {self.addresses_mapped} named, {self.addresses_unmapped} kept as they are"
        )


def records_of(
    lines: Iterable[str],
    rules: Rules,
    summary: Summary,
    file_name: str,
    skip_bad: bool = False,
) -> Iterator[bytes]:
    """The records of one file as JSON, counted into `summary`.

    Raises `InvalidInput` naming the file and line of the first bad line, unless `skip_bad`.
    """
    encode = msgspec.json.Encoder().encode
    fields: list[str] = DEFAULT_FIELDS
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        if "srcaddr" in words or "dstaddr" in words:
            fields = words
            missing = [name for name in _NEEDED if name not in fields]
            if missing:
                raise InvalidInput(
                    f"{file_name}: the header lacks {', '.join(missing)}"
                )
            continue
        summary.lines += 1
        try:
            values = _record(dict(zip(fields, words, strict=True)), rules, summary)
        except ValueError as error:
            if not skip_bad:
                raise InvalidInput(f"{file_name}:{number}: {error}") from error
            summary.skipped["bad"] += 1
            continue
        if values is not None:
            summary.records += 1
            yield encode(dict(zip(RECORD_FIELDS, values, strict=True)))


def _record(
    line: dict[str, str], rules: Rules, summary: Summary
) -> tuple[str, str, str, int, int, int] | None:
    """The values of a record, in wire order; None for a line that is skipped."""
    if line.get("log-status") in _NO_TRAFFIC:
        summary.skipped[line["log-status"]] += 1
        return None
    action = line.get("action", "ACCEPT")
    if rules.action not in ("ALL", action):
        summary.skipped[action] += 1
        return None
    source, dest = (
        _name(line["srcaddr"], rules, summary),
        _name(line["dstaddr"], rules, summary),
    )
    count, start = _integer(line, "bytes"), _integer(line, "start")
    vpc_id = line.get("vpc-id", "-")
    vpc_id = rules.vpc_id if vpc_id == "-" else vpc_id
    hour = start // _SECONDS_PER_HOUR
    if rules.by_port and _port(line, "srcport") < _port(line, "dstport"):
        # The answering side sent this: for the opener it was received.
        return dest, source, vpc_id, hour, count, 0
    return source, dest, vpc_id, hour, 0, count


def _name(address: str, rules: Rules, summary: Summary) -> str:
    name = rules.names.find(address)
    if name is None:
        summary.addresses_unmapped += 1
        return address
    summary.addresses_mapped += 1
    return name


def _integer(line: dict[str, str], name: str) -> int:
    text = line[name]
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{name} must be a number, not {text[:40]!r}")
    return int(text)


def _port(line: dict[str, str], name: str) -> int:
    text = line.get(name, "-")
    return int(text) if text.isascii() and text.isdigit() else 0
