"""The rules of one record, stated once: what each field may hold, and what is said when it does not.

Readers of every format end here: the fast paths for the names, the close looks for everything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from flowtally import limits
from flowtally.errors import FieldError, InvalidInput, InvalidRecords
from flowtally.wire.fields import BYTE_FIELDS, NAME_FIELDS, RECORD_FIELDS

INTEGER_MAX = {
    "hour": limits.HOUR_MAX,
    **dict.fromkeys(BYTE_FIELDS, limits.RECORD_BYTES_VALUE_MAX),
}

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_SHOWN_MAX = 40

MISSING = object()
"""Stands for a field that a record does not have."""
REPEATED = object()
"""Stands for a field that a record has more than once."""


class NotAnInteger:
    """A JSON number that is not an integer, or has too many digits to be read as one."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def name_fault(name: str) -> str | None:
    """What is wrong with an app name or vpc_id, or None."""
    try:
        size = len(name) if name.isascii() else len(name.encode())
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is not valid UTF-8"
    if not 1 <= size <= limits.NAME_BYTES_MAX:
        return f"has {size} bytes, and must have 1 to {limits.NAME_BYTES_MAX}"
    control = _CONTROL.search(name)
    if control is not None:
        return f"holds the control character U+{ord(control.group()):04X}"
    return None


def field_fault(field: str, value: object) -> str | None:
    """What is wrong with one field of a record, or None."""
    if value is MISSING:
        return "is missing"
    if value is REPEATED:
        return "occurs more than once"
    if field in NAME_FIELDS:
        if not isinstance(value, str):
            return f"must be a string, not {shown(value)}"
        return name_fault(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return f"must be an integer, not {shown(value)}"
    if not 0 <= value <= INTEGER_MAX[field]:
        return f"must be from 0 to {INTEGER_MAX[field]}, not {shown(value)}"
    return None


def shown(value: object) -> str:
    """A value as JSON would write it, shortened: it may be hostile."""
    words = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "an array"
    text = repr(value) if isinstance(value, NotAnInteger) else ascii(value)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."


class Faults:
    """Collects the faults of a body: the first are listed, all are counted."""

    def __init__(self) -> None:
        self.listed: list[FieldError] = []
        self.total = 0

    def add(self, pointer: str, detail: str) -> None:
        """Notes one fault at a JSON Pointer."""
        self.total += 1
        if len(self.listed) < limits.ERRORS_LISTED_MAX:
            self.listed.append(FieldError(pointer, detail))

    def add_record(self, index: int, record: Mapping[str, object]) -> None:
        """Notes every fault of a record, given as far as its fields could be read."""
        for field in RECORD_FIELDS:
            fault = field_fault(field, record.get(field, MISSING))
            if fault is not None:
                self.add(f"/{index}/{field}", fault)

    def error(self) -> InvalidInput:
        """The refusal that names them."""
        first = self.listed[0]
        more = f" (and {self.total - 1} more)" if self.total > 1 else ""
        return InvalidRecords(
            f"{first.pointer} {first.detail}{more}", self.listed, self.total
        )
