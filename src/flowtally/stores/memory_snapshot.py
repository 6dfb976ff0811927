"""The memory store's data folder: one Parquet file with all of its state, as of one moment.

Written beside, synced, renamed into its place, and the folder synced: at every moment there is the
old snapshot or the new one, each whole. A seal in front of Parquet's footer has the format's number
and a hash of every other byte of the file, so a damaged one is found before anything of it is
believed. Any Parquet reader can read the file; it is drawn in `docs/internals/data-folder.md`.

The file `memory.open` stands there while a service has the folder. Where it is found at a start,
the last process was killed: what came after its snapshot is lost, and revisions must pass those
that it gave out since.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import msgspec

from flowtally import __version__
from flowtally.errors import DamagedData, DataFolderError
from flowtally.model import Account, Ledger, Revision
from flowtally.steps import OnStep, ignore
from flowtally.stores.folder import DataFolder
from flowtally.stores.memory_state import Arrival, Captured, ledger_of

FORMAT = 1
SNAPSHOT = "memory.parquet"
REVISIONS_LEAP = 2**32
"""What revisions grow by after a kill: more than any process gives out between two snapshots."""
_SEAL = struct.Struct("<15sB32s")
_SEAL_NAME = b"flowtally-state"
_FOOTER_END = struct.Struct("<I4s")
_PARQUET = b"PAR1"
_HASHED_AT_ONCE = 1 << 20


class MemoryFolder:
    """The folder: `open` takes it, `load` reads the snapshot, `save` replaces it."""

    def __init__(self, path: Path, on_step: OnStep = ignore) -> None:
        self._folder = DataFolder(path, "memory")
        self._on_step = on_step
        self.snapshot = path / SNAPSHOT
        self._beside = path / f"{SNAPSHOT}.new"
        self.staging = self._folder.staging
        self.marker = path / "memory.open"
        self._marker_beside = path / "memory.open.new"

    def open(self, create: bool = True) -> None:
        """Takes the folder for this process. Raises `FolderInUse`, or `DataFolderError` where it
        holds another store's data."""
        self._folder.open(create)

    def close(self) -> None:
        """Gives the folder back. May be called twice."""
        self._folder.close()

    def sign(self, url: str) -> None:
        """Notes where the service is reached, for whoever finds the folder taken."""
        self._folder.sign(url)

    def load(self) -> Captured | None:
        """The snapshot, or None where there is none.

        Raises `DamagedData` naming the file where it is damaged or of a newer format.
        """
        state = read_snapshot(self.snapshot)
        # A half-written one, of a process that was killed over it.
        self._beside.unlink(missing_ok=True)
        return state

    def begin(self, state: Captured | None, taken_ms: int) -> Captured:
        """Notes that a service runs from now on. Returns the state to run with: the one that was
        loaded, or an empty one, with later revisions where the last process was killed."""
        killed = self.marker.exists()
        floor = self._floor() if killed else 0
        if state is None:
            never = Revision(0, None)
            state = Captured(uuid.uuid4().hex, taken_ms, 0.0, 0, never, (), {}, {}, {})
        if killed:
            sequence = max(state.sequence, floor) + REVISIONS_LEAP
            later = Revision(sequence, taken_ms)
            revisions = dict.fromkeys(state.revisions, later)
            state = replace(state, sequence=sequence, emptied=later, revisions=revisions)
        # Never over the last one: what it says is needed until this one is whole.
        with self._marker_beside.open("wb") as file:
            file.write(json.dumps({"sequence": state.sequence}).encode())
            _sync(file)
        self._marker_beside.replace(self.marker)
        self._folder.sync()
        return state

    def _floor(self) -> int:
        try:
            found = json.loads(self.marker.read_bytes())["sequence"]
        except (ValueError, LookupError, TypeError):
            # No kill and no power cut leaves it so. The snapshot alone tells how far they went.
            return 0
        return found if isinstance(found, int) else 0

    def end(self) -> None:
        """Notes that the service stopped in order, with everything in the snapshot."""
        self.marker.unlink(missing_ok=True)
        self._folder.sync()

    def save(self, state: Captured) -> int:
        """Puts a snapshot in the place of the last one; returns its size. Raises `OSError`, and
        then the last one stands."""
        try:
            _write(state, self._beside)
            self._on_step("snapshot.written")
            with self._beside.open("r+b") as file:
                _seal(file)
                _sync(file)
            self._on_step("snapshot.synced")
            size = self._beside.stat().st_size
            self._beside.replace(self.snapshot)
        except BaseException:
            self._beside.unlink(missing_ok=True)
            raise
        self._on_step("snapshot.renamed")
        self._folder.sync()
        return size


def write_snapshot(state: Captured, path: Path) -> None:
    """Writes a state to a file that nobody needs yet. Raises `OSError`."""
    _write(state, path)
    with path.open("r+b") as file:
        _seal(file)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _write(state: Captured, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from flowtally.stores import memory_columns

    account = {
        "format": FORMAT,
        "instance": state.instance,
        "taken_ms": state.taken_ms,
        "sequence": state.sequence,
        "emptied": [state.emptied.number, state.emptied.changed_ms],
        "rows": memory_columns.rows_in(state),
        "arrivals": {
            str(hour): msgspec.to_builtins(arrival) for hour, arrival in state.arrivals.items()
        },
    }
    metadata = {"flowtally": json.dumps(account)}
    schema = memory_columns.SCHEMA.with_metadata(metadata)
    try:
        with pq.ParquetWriter(str(path), schema, **memory_columns.WRITTEN) as writer:
            for table in memory_columns.tables_of(state):
                writer.write_table(table.replace_schema_metadata(metadata))
    except pa.ArrowException as error:
        raise OSError(f"{path} could not be written: {error}") from error


def _seal(file: IO[bytes]) -> None:
    """Sets the seal between the last rows and the footer, where Parquet looks at nothing."""
    end = file.seek(0, os.SEEK_END)
    file.seek(end - _FOOTER_END.size)
    length, magic = _FOOTER_END.unpack(file.read(_FOOTER_END.size))
    assert magic == _PARQUET
    footer_at = end - _FOOTER_END.size - length
    file.seek(footer_at)
    footer = file.read()
    digest = _digest(file, footer_at, footer)
    file.seek(footer_at)
    file.write(_SEAL.pack(_SEAL_NAME, FORMAT, digest) + footer)


def _digest(file: IO[bytes], rows_end: int, footer: bytes) -> bytes:
    found = hashlib.sha256()
    file.seek(0)
    left = rows_end
    while left:
        part = file.read(min(left, _HASHED_AT_ONCE))
        if not part:
            break
        found.update(part)
        left -= len(part)
    found.update(footer)
    return found.digest()


def _require_sealed(file: IO[bytes], damaged: Callable[[str], DamagedData]) -> None:
    end = file.seek(0, os.SEEK_END)
    if end < _SEAL.size + _FOOTER_END.size:
        raise damaged("is cut off")
    file.seek(end - _FOOTER_END.size)
    length, magic = _FOOTER_END.unpack(file.read(_FOOTER_END.size))
    seal_at = end - _FOOTER_END.size - length - _SEAL.size
    if magic != _PARQUET or seal_at < 0:
        raise damaged("is cut off, or is no snapshot")
    file.seek(seal_at)
    name, number, digest = _SEAL.unpack(file.read(_SEAL.size))
    if name != _SEAL_NAME or not number:
        raise damaged("is damaged, or is no snapshot of flowtally")
    if number > FORMAT:
        raise damaged(
            f"was written by a newer release: it is of format {number}, and flowtally"
            f" {__version__} reads up to format {FORMAT}; use that release"
        )
    footer = file.read()
    if _digest(file, seal_at, footer) != digest:
        raise damaged("is damaged: it does not match its seal")


def read_snapshot(path: Path) -> Captured | None:
    """The state in a snapshot; None where there is no file. Raises `DamagedData` naming it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from flowtally.stores import memory_columns

    def damaged(how: str) -> DamagedData:
        return DamagedData(f"the snapshot {path} {how}; nothing of it was loaded")

    try:
        with path.open("rb") as file:
            _require_sealed(file, damaged)
            file.seek(0)
            with pq.ParquetFile(file) as found:
                about = json.loads(found.metadata.metadata[b"flowtally"])
                groups = range(found.metadata.num_row_groups)
                tables = (found.read_row_group(group) for group in groups)
                state = memory_columns.state_in(tables, _bare(about))
    except FileNotFoundError:
        return None
    except (pa.ArrowException, ValueError, LookupError, TypeError) as error:
        raise damaged(f"cannot be read: {str(error).splitlines()[0]}") from error
    except OSError as error:
        raise DataFolderError(f"the snapshot {path} cannot be read: {error}") from error
    if memory_columns.rows_in(state) != about["rows"]:
        raise damaged("does not hold as many rows as it says")
    return state


def _bare(about: dict[str, Any]) -> Captured:
    """The state without its rows."""
    arrivals = {}
    for hour, fields in about["arrivals"].items():
        accepted, expired = Account(**fields.pop("accepted")), Account(**fields.pop("expired"))
        arrivals[int(hour)] = Arrival(accepted=accepted, expired=expired, **fields)
    return Captured(
        about["instance"],
        about["taken_ms"],
        0.0,
        about["sequence"],
        Revision(*about["emptied"]),
        (),
        arrivals,
        {},
        {},
    )


def renew(path: Path) -> None:
    """Gives a snapshot that no service has another instance, durably."""
    state = read_snapshot(path / SNAPSHOT)
    if state is not None:
        MemoryFolder(path).save(replace(state, instance=uuid.uuid4().hex))


def verify_snapshot(path: Path) -> Ledger:
    """The account of a stopped folder's snapshot: what was accepted, beside what its rows add up
    to. Raises `FolderInUse` where a service has it, and `DamagedData`."""
    folder = MemoryFolder(path)
    folder.open(create=False)
    try:
        state = read_snapshot(folder.snapshot)
    finally:
        folder.close()
    if state is None:
        raise DataFolderError(f"there is no snapshot {folder.snapshot}")
    return ledger_of(state.arrivals, ((piece[1], piece[2]) for piece in state.pieces))
