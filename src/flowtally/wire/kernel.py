"""The native kernel, where it is built. Where it is not, its Python twin does the same, slower.

The kernel reads bodies into tallies, merges the journal's blobs and writes sums as JSON, without a
Python object for each record. It never says what is wrong: whatever it has a doubt about it leaves
to the twin, which owns every rule and error. So each function here returns None where the twin has
to do it, be it for a doubt or because there is no kernel.

`kernel/` has its source; `tests/kernel/` holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from flowtally import limits
from flowtally.model import Account, Revision, Sums, Tally
from flowtally.wire.fields import RECORD_FIELDS
from flowtally.wire.media import BodyFormat, SumsFormat

if TYPE_CHECKING:
    import pyarrow as pa

try:
    import flowtally_kernel
except ImportError:
    flowtally_kernel = None  # type: ignore[assignment]

_LIMITS = {
    "NAME_BYTES_MAX": limits.NAME_BYTES_MAX,
    "HOUR_MAX": limits.HOUR_MAX,
    "RECORD_BYTES_VALUE_MAX": limits.RECORD_BYTES_VALUE_MAX,
    "UNKNOWN_DEPTH_MAX": limits.UNKNOWN_DEPTH_MAX,
    "CLOSE_LOOK_MARKS_PER_RECORD_MAX": limits.CLOSE_LOOK_MARKS_PER_RECORD_MAX,
}


def _built() -> Any:
    """The kernel's module, unless there is none or it was built for other rules."""
    for name, value in _LIMITS.items():
        if getattr(flowtally_kernel, name, None) != value:
            return None
    return flowtally_kernel


_native: Any = _built()


def use(wanted: bool) -> None:
    """Whether the kernel is used where it is built; it is, unless this says otherwise."""
    global _native
    _native = _built() if wanted else None


def version() -> str | None:
    """The version of the kernel that is in use; None where the twin does all."""
    return None if _native is None else str(_native.__version__)


class NativeTally(Tally):
    """A tally whose rows are kept outside of Python, and made only for who asks for them."""

    __slots__ = ("native",)

    def __init__(self, native: Any) -> None:
        self.native = native

    def __getattr__(self, name: str) -> Any:
        # Called for what is not there yet.
        if name != "rows":
            raise AttributeError(name)
        self.rows = self.native.rows()
        return self.rows

    def __len__(self) -> int:
        return len(self.native)

    def account(self) -> Account:
        return Account(*self.native.account())

    def hours(self) -> set[int]:
        found: set[int] = self.native.hours()
        return found


def decode(body: bytes, form: BodyFormat, records_max: int) -> tuple[Tally, int] | None:
    """The tally of a JSON or NDJSON body, and how many records were summed."""
    if _native is None:
        return None
    found = (_native.decode_json if form is BodyFormat.JSON else _native.decode_ndjson)(
        body, records_max
    )
    return None if found is None else (NativeTally(found), found.records)


def tally_arrow(rows: pa.Table, records_max: int) -> tuple[Tally, int] | None:
    """The tally of records in columns, which must have been validated in full."""
    found = None if _native is None else _native.tally_arrow(rows, records_max)
    return None if found is None else (NativeTally(found), found.records)


def encode(parts: Sequence[Tally | bytes]) -> bytes | None:
    """One blob of the sums of tallies of the kernel's, and of blobs of the twin's."""
    if _native is None:
        return None
    natives = [part.native if isinstance(part, NativeTally) else part for part in parts]
    encoded: bytes | None = _native.encode(natives)
    return encoded


def merge(blobs: Sequence[bytes], arrival_hours: Sequence[int]) -> Any:
    """The rows of several blobs merged by flow and arrival hour: see `MergedRows` of the kernel."""
    return None if _native is None else _native.merge(blobs, arrival_hours)


class NativeSums(Sums):
    """Sums whose rows are kept outside of Python: a table is made only for who asks for it."""

    __slots__ = ("native",)

    native: Any

    def __init__(self, hour: int, revision: Revision, native: Any) -> None:
        for name, value in (("hour", hour), ("revision", revision), ("native", native)):
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        # Called for what is not there yet.
        if name != "table":
            raise AttributeError(name)
        import pyarrow as pa

        table = pa.table(self.native).select(list(RECORD_FIELDS))
        object.__setattr__(self, "table", table)
        return table

    def __len__(self) -> int:
        return len(self.native)


def sum_rows(hour: int, revision: Revision, rows: pa.Table) -> Sums | None:
    """Rows of a store, whose columns are those of `model.Sums.table`, as the sums of a read."""
    found = None if _native is None else _native.sum_rows(rows)
    return None if found is None else NativeSums(hour, revision, found)


def answer(sums: Sums, form: SumsFormat) -> bytes | None:
    """The sums of a read as JSON or NDJSON, where the kernel has them."""
    if not isinstance(sums, NativeSums):
        return None
    writers: dict[SumsFormat, Callable[[], bytes]] = {
        SumsFormat.JSON: sums.native.json,
        SumsFormat.NDJSON: sums.native.ndjson,
    }
    writer = writers.get(form)
    return None if writer is None else writer()


def sums(table: pa.Table, form: SumsFormat) -> bytes | None:
    """Sums as JSON or NDJSON."""
    if _native is None:
        return None
    writers: dict[SumsFormat, Callable[[pa.Table], bytes | None]] = {
        SumsFormat.JSON: _native.sums_json,
        SumsFormat.NDJSON: _native.sums_ndjson,
    }
    writer = writers.get(form)
    return None if writer is None else writer(table)
