"""The rules of one record, stated once: what each field may hold, and what is said otherwise.

Readers of every format end here: the fast paths for the names, the close looks for everything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping

from flowtally import limits
from flowtally.errors import FieldError, InvalidRecords
from flowtally.wire.fields import BYTE_FIELDS, NAME_FIELDS

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
    """A JSON number that is not written as an integer is, or has too many digits to be in range."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def names_are_good(names: Collection[str]) -> bool:
    """Whether every app name and vpc_id of a tally keeps the rules; each distinct one once."""
    if not names:
        return True
    together = "".join(names)
    if together.isascii() and together.isprintable():
        # All but control characters is printable in ASCII, where a character is a byte: three
        # passes in C answer for nearly every batch.
        return "" not in names and max(map(len, names)) <= limits.NAME_BYTES_MAX
    return not any(map(name_fault, names))


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
        return name_fault(value) if isinstance(value, str) else _must_be("a string", value)
    if isinstance(value, bool) or not isinstance(value, int):
        return _must_be("an integer", value)
    if not 0 <= value <= INTEGER_MAX[field]:
        return _must_be(f"from 0 to {INTEGER_MAX[field]}", value)
    return None


def shown(value: object) -> str:
    """A value as JSON would write it, shortened: it may be hostile, and it may be huge."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, str):
        text = json.dumps(value[: _SHOWN_MAX + 1])
    else:
        text = value.text if isinstance(value, NotAnInteger) else str(value)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."


def _must_be(what: str, value: object) -> str:
    return f"must be {what}, not {shown(value)}"


class Faults:
    """Collects the faults of a body: the first are listed, all are counted."""

    def __init__(self) -> None:
        self._listed: list[FieldError] = []
        self._total = 0
        self._good_names: set[str] = set()

    def add(self, pointer: str, detail: str) -> None:
        """Notes one fault at a JSON Pointer."""
        self._total += 1
        if len(self._listed) < limits.ERRORS_LISTED_MAX:
            self._listed.append(FieldError(pointer, detail))

    def add_record(self, index: int, record: Mapping[str, object]) -> None:
        """Notes every fault of a record, given as far as its fields could be read."""
        good_names = self._good_names
        for field in NAME_FIELDS:
            value = record.get(field, MISSING)
            if value.__class__ is str and value in good_names:
                continue
            if self._add_field(index, field, value) and isinstance(value, str):
                good_names.add(value)
        for field, integer_max in INTEGER_MAX.items():
            value = record.get(field, MISSING)
            if not (type(value) is int and 0 <= value <= integer_max):
                self._add_field(index, field, value)

    def _add_field(self, index: int, field: str, value: object) -> bool:
        fault = field_fault(field, value)
        if fault is not None:
            self.add(f"/{index}/{field}", fault)
        return fault is None

    def raise_if_any(self) -> None:
        """Raises `InvalidRecords` naming them, if there are any."""
        if not self._total:
            return
        first = self._listed[0]
        more = f" (and {self._total - 1} more)" if self._total > 1 else ""
        raise InvalidRecords(f"{first.pointer} {first.detail}{more}", self._listed, self._total)
