"""The native kernel: flow records into sums, without a Python object in between."""

from collections.abc import Sequence
from typing import Protocol

__version__: str
NAME_BYTES_MAX: int
HOUR_MAX: int
RECORD_BYTES_VALUE_MAX: int
UNKNOWN_DEPTH_MAX: int
CLOSE_LOOK_MARKS_PER_RECORD_MAX: int

class KernelError(RuntimeError):
    """A defect of the kernel: it stopped in the middle of its work, of which nothing is kept."""

class ArrowRows(Protocol):
    """What exports an Arrow stream: a table, batch or reader of pyarrow, `MergedRows`."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...

class KernelTally:
    """A batch summed by flow. It is only read."""

    @property
    def records(self) -> int:
        """How many records were summed."""
    def __len__(self) -> int:
        """The number of flows."""
    def account(self) -> tuple[int, int, int, int]:
        """What it adds to the ledger: batches, records, bytes_rx, bytes_tx."""
    def hours(self) -> set[int]:
        """The hour labels it touches."""
    def rows(self) -> dict[tuple[str, str, str, int], list[int]]:
        """The rows as `model.Tally` holds them."""

class MergedRows:
    """Rows in columns, which pyarrow, DuckDB and others read by the Arrow PyCapsule interface."""

    @property
    def hours(self) -> dict[int, int]:
        """Each hour label that is touched, and the last blob that touches it, counted from 0."""
    @property
    def arrival_hours(self) -> dict[int, int]:
        """Each arrival hour that was told, and how many rows it has."""
    def __len__(self) -> int:
        """The number of rows."""
    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """A new stream of the rows."""

def decode_json(body: bytes, records_max: int) -> KernelTally | None:
    """The tally of a JSON array of records, or None where the twin has to look at it."""

def decode_ndjson(body: bytes, records_max: int) -> KernelTally | None:
    """The tally of NDJSON, one record a line, or None where the twin has to look at it."""

def encode(parts: Sequence[KernelTally | bytes]) -> bytes | None:
    """One blob for the journal of the sums of tallies and blobs, or None for the twin."""

def merge(blobs: Sequence[bytes], arrival_hours: Sequence[int] | None = None) -> MergedRows | None:
    """The rows of several blobs, merged by flow (and arrival hour), or None for the twin."""

def tally_arrow(rows: ArrowRows, records_max: int) -> KernelTally | None:
    """The tally of records in columns, or None where the twin has to look at them.

    Names: string, large_string or string_view, also coded by a dictionary; integers of any size.
    The arrays must have been validated in full: their offsets are checked here again, but how long
    a buffer is only their maker knows.
    """

class SortedSums:
    """The sums of a read; an Arrow stream like `MergedRows`, of which `records` says nothing."""

    def __len__(self) -> int: ...
    def json(self) -> bytes:
        """A JSON array of objects, the bytes of `sums_json`."""

    def ndjson(self) -> bytes:
        """One object a line."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...

def sum_rows(rows: ArrowRows) -> SortedSums | None:
    """The rows of a store summed by flow, in the order of their names' bytes, or None for the store.

    Columns as in `sums_json`.
    """

def sums_json(rows: ArrowRows) -> bytes | None:
    """Sums as a JSON array of objects, the bytes of `wire.sums`, or None for the twin.

    Names as in `tally_arrow`, bytes_rx and bytes_tx decimal128(38, 0), nothing null or negative.
    """

def sums_ndjson(rows: ArrowRows) -> bytes | None:
    """The same, one object a line."""
