"""A backup as one stream: a tar archive of its files, `manifest.json` last.

Nothing is held but the piece that is read: each file is hashed as it goes by, and what was found
stands in the manifest behind them. `tar x` unpacks it, `flowtally backup` checks it as it comes.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

from flowtally import limits
from flowtally.model import BackupPoint
from flowtally.wire.backup_manifest import NAME, FileEntry, Manifest, encode_manifest

MEDIA_TYPE = "application/x-tar"


class Source(NamedTuple):
    """A file of a backup. `open` opens it; nothing else of it may change meanwhile."""

    name: str
    size_bytes: int
    open: Callable[[], BinaryIO]


def backup_stream(point: BackupPoint, sources: Sequence[Source], version: str) -> Iterator[bytes]:
    """The stream, in pieces of `BACKUP_READ_BYTES`. Raises `OSError` where a file is not as long as
    it was said to be: the stream is then not whole, and has no manifest."""
    entries = []
    for source in sources:
        yield _head(source.name, source.size_bytes, point.taken_ms)
        digest = hashlib.sha256()
        left = source.size_bytes
        with source.open() as file:
            while left:
                piece = file.read(min(left, limits.BACKUP_READ_BYTES))
                if not piece:
                    raise OSError(f"{source.name} became shorter while it was read")
                left -= len(piece)
                digest.update(piece)
                yield piece
        yield _padding(source.size_bytes)
        entries.append(FileEntry(source.name, source.size_bytes, digest.hexdigest()))
    manifest = encode_manifest(Manifest.of(point, tuple(entries), version))
    yield _head(NAME, len(manifest), point.taken_ms)
    yield manifest + _padding(len(manifest)) + bytes(2 * tarfile.BLOCKSIZE)


def _head(name: str, size_bytes: int, taken_ms: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size_bytes
    member.mode = 0o600
    member.mtime = taken_ms // 1000
    return member.tobuf(tarfile.PAX_FORMAT)


def _padding(size_bytes: int) -> bytes:
    return bytes(-size_bytes % tarfile.BLOCKSIZE)
