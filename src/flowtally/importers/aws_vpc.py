"""AWS VPC flow log records, versions 2 to 5 (and later ones), into records: one for each line.

A header line names the fields, in any order, as files in S3 have it; without one the default format
of version 2 is taken. NODATA and SKIPDATA lines hold no traffic. The hour is the start of the
capture window, in hours since 1970.

A flow log has one line for each direction. `src_app` is the side that opened the connection: the
one with the higher port, because clients use ephemeral ports. Where the ports are equal or missing
it cannot be told, and the side that sent is taken. What `src_app` sent is bytes_tx, what it
received is bytes_rx.

Fields: https://docs.aws.amazon.com/vpc/latest/userguide/flow-log-records.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from flowtally.errors import InvalidInput
from flowtally.importers.names import Names
from flowtally.wire.fields import RECORD_FIELDS
from flowtally.wire.rules import field_fault

DEFAULT_FIELDS = (
    "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start"
    " end action log-status"
).split()
ACCEPT, REJECT, ALL = "ACCEPT", "REJECT", "ALL"
_NEEDED = ("srcaddr", "dstaddr", "bytes", "start")
_HEADER_WORDS_MIN = 2
"""Names of fields that make a line a header: no line of values holds even one."""
_NO_TRAFFIC = ("NODATA", "SKIPDATA")
_ABSENT = "-"
_SECONDS_PER_HOUR = 3600
_PORT_MAX = 65_535
_NUMBER_DIGITS_MAX = 20
_BAD_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Rules:
    """What to take, and how to name it."""

    names: Names = field(default_factory=Names)
    action: str = ACCEPT
    """ACCEPT, REJECT or ALL."""
    vpc_id: str = "unknown"
    """For lines that have no vpc-id: version 2 does not."""
    by_port: bool = True
    """Whether the opening side is told by its port, or is the source as logged."""
    skip_bad: bool = False
    """Whether a line that cannot be read is counted and left, or ends the import."""


@dataclass(slots=True)
class Summary:
    """What was read and what became of it."""

    lines: int = 0
    records: int = 0
    addresses_named: int = 0
    addresses_kept: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)
    """The first bad lines, each with its file, number and fault."""

    def __str__(self) -> str:
        skipped = ", ".join(f"{count} {why}" for why, count in sorted(self.skipped.items()))
        return (
            f"{self.lines} lines read, {self.records} records made, skipped: {skipped or 'none'};"
            f" addresses: {self.addresses_named} named, {self.addresses_kept} kept as they are"
        )


class _Skipped(Exception):
    """The line is of no interest; the message says why, in a word."""


def entries_of(
    lines: Iterable[bytes], rules: Rules, summary: Summary, file_name: str
) -> Iterator[tuple[bytes, bytes | None]]:
    """Each line of one file, with the record made of it as JSON, or None; counted into `summary`.

    Raises `InvalidInput` naming the file and the first bad line, unless bad ones are skipped.
    """
    encode = msgspec.json.Encoder().encode
    fields: Sequence[str] = DEFAULT_FIELDS
    for number, line in enumerate(lines, start=1):
        words = line.decode(errors="replace").split()
        record = None
        if _is_header(words):
            fields = _checked_header(words, rules, f"{file_name}:{number}")
        elif words:
            summary.lines += 1
            try:
                values = _record(_by_name(fields, words), rules, summary)
                record = encode(values)
                summary.records += 1
            except _Skipped as skipped:
                summary.skipped[str(skipped)] += 1
            except ValueError as error:
                message = f"{file_name}:{number}: {error}"
                if not rules.skip_bad:
                    raise InvalidInput(message) from error
                summary.skipped["bad"] += 1
                if len(summary.bad) < _BAD_SHOWN:
                    summary.bad.append(message)
        yield line, record


def _is_header(words: list[str]) -> bool:
    return len({*DEFAULT_FIELDS, "vpc-id"} & set(words)) >= _HEADER_WORDS_MIN


def _checked_header(words: list[str], rules: Rules, where: str) -> list[str]:
    missing = [name for name in _NEEDED if name not in words]
    if missing:
        raise InvalidInput(f"{where}: the header lacks {', '.join(missing)}")
    if len(set(words)) < len(words):
        raise InvalidInput(f"{where}: the header names a field twice")
    if "action" not in words and rules.action != ALL:
        raise InvalidInput(
            f"{where}: the lines do not say whether they are {ACCEPT} or {REJECT}; if all shall"
            f" count, take --action {ALL}"
        )
    return words


def _by_name(fields: Sequence[str], words: list[str]) -> dict[str, str]:
    if len(fields) != len(words):
        raise ValueError(f"has {len(words)} fields, and the format has {len(fields)}")
    return dict(zip(fields, words, strict=True))


def _record(line: dict[str, str], rules: Rules, summary: Summary) -> dict[str, object]:
    """Raises `_Skipped`, or `ValueError` saying what is wrong with the line."""
    status = line.get("log-status")
    if status in _NO_TRAFFIC:
        raise _Skipped(status)
    if line["bytes"] == _ABSENT:
        raise _Skipped("without traffic")
    action = line.get("action", ALL)
    if action not in (ACCEPT, REJECT, ALL):
        raise ValueError(f"action must be {ACCEPT} or {REJECT}, not {action[:40]!r}")
    if rules.action not in (ALL, action):
        raise _Skipped(action)
    count, hour = _integer(line, "bytes"), _integer(line, "start") // _SECONDS_PER_HOUR
    names = [rules.names.find(line[side]) for side in ("srcaddr", "dstaddr")]
    source, dest = names[0] or line["srcaddr"], names[1] or line["dstaddr"]
    vpc_id = line.get("vpc-id", _ABSENT)
    if vpc_id == _ABSENT:
        vpc_id = rules.vpc_id
    if rules.by_port and _port(line, "srcport") < _port(line, "dstport"):
        # The answering side sent this: the opener received it.
        values = (dest, source, vpc_id, hour, count, 0)
    else:
        values = (source, dest, vpc_id, hour, 0, count)
    record: dict[str, object] = dict(zip(RECORD_FIELDS, values, strict=True))
    for name, value in record.items():
        # The service would refuse the whole batch; here the line can still be named.
        fault = field_fault(name, value)
        if fault is not None:
            raise ValueError(f"{name} {fault}")
    named = sum(name is not None for name in names)
    summary.addresses_named += named
    summary.addresses_kept += len(names) - named
    return record


def _integer(line: dict[str, str], name: str) -> int:
    text = line[name]
    if not (text.isascii() and text.isdigit() and len(text) <= _NUMBER_DIGITS_MAX):
        raise ValueError(f"{name} must be a number, not {text[:40]!r}")
    return int(text)


def _port(line: dict[str, str], name: str) -> int:
    """0 where there is none, as in ICMP: then neither side is the higher one."""
    if line.get(name, _ABSENT) == _ABSENT:
        return 0
    port = _integer(line, name)
    if port > _PORT_MAX:
        raise ValueError(f"{name} must be a port, not {port}")
    return port
