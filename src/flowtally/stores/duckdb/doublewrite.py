"""The copy of DuckDB's metadata blocks that lies beside its file while a checkpoint is written.

DuckDB 2.0 keeps the metadata of successive checkpoints in parts of the same blocks, 256 KiB each,
and a checkpoint writes such a block again in its place, before the header that makes it valid. A
kill or a power cut in the middle of that write leaves a block of two halves: each part is sound,
but the checksum of the whole fits neither, and DuckDB refuses the file. So, as InnoDB does with its
doublewrite buffer, the blocks are copied to a file beside before a checkpoint begins, and put back
before the file is opened where the checkpoint did not get as far as its header.

Nothing is guessed. The copy holds the file's headers as they were then: the main one, which has an
identifier of its own for each file, and the last checkpoint's. For as long as these are the file's
headers, its metadata blocks have to be what they were; once the next checkpoint's header is there,
the copy is not looked at. What is damaged otherwise stays so, and DuckDB names it.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from typing import IO, NamedTuple

import duckdb

from flowtally.stores.folder import DataFolder

_HEADER_BYTES = 4096
HEADERS_BYTES = 3 * _HEADER_BYTES
_CHECKPOINT = struct.Struct("<8x Q 24x Q")
"""A checkpoint's header, behind its checksum: its number, three pointers, the size of a block."""
_COUNT = struct.Struct("<Q")
_DIGEST_BYTES = hashlib.sha256().digest_size


class _Headers(NamedTuple):
    """Of a DuckDB file, which begins with three: the main one, and two of checkpoints, which take
    turns. The blocks follow."""

    encoded: bytes
    """The main header and the newest checkpoint's."""
    block_bytes: int

    def offset_of(self, block_id: int) -> int:
        return HEADERS_BYTES + block_id * self.block_bytes


class Doublewrite:
    """The copy in one data folder: `sums.duckdb.blocks`."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self._copy = Path(f"{folder.sums}.blocks")
        self._beside = Path(f"{folder.sums}.blocks.new")

    def save(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Copies the blocks that the next checkpoint may write in their place; when this returns,
        the copy is durable. Raises `OSError`, and then the last copy stands."""
        found = connection.execute("SELECT block_id FROM pragma_metadata_info()").fetchall()
        with self._folder.sums.open("rb") as sums:
            headers = _read_headers(sums)
            blocks = {
                block_id: _read(sums, headers.offset_of(block_id), headers.block_bytes)
                for (block_id,) in found
            }
        try:
            with self._beside.open("wb") as file:
                file.write(_encode(headers, blocks))
                file.flush()
                os.fsync(file.fileno())
            self._beside.replace(self._copy)
        except BaseException:
            self._beside.unlink(missing_ok=True)
            raise
        self._folder.sync()

    def put_back(self) -> int:
        """Undoes what a checkpoint that was cut short wrote in place; returns how many blocks were
        not as they have to be. To be called before DuckDB opens the file. Raises `OSError`."""
        self._beside.unlink(missing_ok=True)
        if not self._copy.exists() or not self._folder.sums.exists():
            return 0
        with self._folder.sums.open("r+b") as sums:
            headers = _read_headers(sums)
            wanted = _decode(self._copy.read_bytes(), headers)
            changed = {
                headers.offset_of(block_id): block
                for block_id, block in wanted.items()
                if _read(sums, headers.offset_of(block_id), headers.block_bytes) != block
            }
            for offset, block in changed.items():
                sums.seek(offset)
                sums.write(block)
            if changed:
                sums.flush()
                os.fsync(sums.fileno())
        return len(changed)


def _read_headers(sums: IO[bytes]) -> _Headers:
    main, *checkpoints = (_read(sums, at * _HEADER_BYTES, _HEADER_BYTES) for at in range(3))
    # Of a file that is cut off the missing ones count as zeros, which no copy was made under.
    whole = [one.ljust(_HEADER_BYTES, b"\0") for one in checkpoints]
    newest = max(whole, key=lambda one: _CHECKPOINT.unpack_from(one)[0])
    _, block_bytes = _CHECKPOINT.unpack_from(newest)
    return _Headers(main + newest, block_bytes)


def _encode(headers: _Headers, blocks: dict[int, bytes]) -> bytes:
    ids = struct.pack(f"<{len(blocks)}Q", *blocks)
    body = b"".join((headers.encoded, _COUNT.pack(len(blocks)), ids, *blocks.values()))
    return body + hashlib.sha256(body).digest()


def _decode(copy: bytes, headers: _Headers) -> dict[int, bytes]:
    """The blocks by their id; none where the copy was made under other headers, or is damaged."""
    body, digest = copy[:-_DIGEST_BYTES], copy[-_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest or not body.startswith(headers.encoded):
        return {}
    at = len(headers.encoded)
    (count,) = _COUNT.unpack_from(body, at)
    ids = struct.unpack_from(f"<{count}Q", body, at + _COUNT.size)
    at += _COUNT.size * (count + 1)
    size = headers.block_bytes
    return {
        block_id: body[at + index * size : at + (index + 1) * size]
        for index, block_id in enumerate(ids)
    }


def _read(file: IO[bytes], at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)
