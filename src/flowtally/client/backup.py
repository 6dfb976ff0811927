"""Takes the stream of a backup in: into a folder of its own, checked as it comes.

Promises: the manifest gets its name last, when all else is on the disk and is what it says. What
fails removes what it wrote; what is killed leaves a folder without a manifest, which `restore`
refuses.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

import httpx2

from flowtally import limits
from flowtally.client.client import Refused, Unreachable, refuse_untrusted
from flowtally.disk import sync_folder
from flowtally.errors import BackupError
from flowtally.wire.backup_manifest import (
    NAME,
    FileEntry,
    Manifest,
    ManifestFault,
    decode_manifest,
)

_FILE_NAME = re.compile(r"[a-z]+\.[a-z]+")
_FILES_MAX = 16
_CONNECT_S = 5.0
_SILENCE_S = 3_600.0
"""The service copies everything before it sends anything; a connection that breaks is told."""


def stream_from(http: httpx2.Client) -> Iterator[bytes]:
    """The stream of a running service. Raises `Refused`, and `Unreachable` where it breaks off."""
    timeout = httpx2.Timeout(_SILENCE_S, connect=_CONNECT_S)
    try:
        with http.stream("POST", "/v1/backup", timeout=timeout) as answer:
            if not answer.is_success:
                answer.read()
                raise Refused.by(answer)
            yield from answer.iter_raw()
    except httpx2.TransportError as error:
        refuse_untrusted(str(http.base_url).rstrip("/"), error)
        raise Unreachable(f"the backup broke off: {error or type(error).__name__}") from error


def receive(stream: Iterable[bytes], folder: Path) -> Manifest:
    """Writes a stream into a folder that does not exist or is empty. Raises `BackupError`, and then
    the folder is as it was."""
    made = _make(folder)
    written: list[Path] = []
    try:
        manifest = _unpack(stream, folder, written)
        sync_folder(folder)
        (folder / f"{NAME}.new").replace(folder / NAME)
        sync_folder(folder)
        if made:
            sync_folder(folder.parent)
    except BaseException as error:
        for path in (*written, folder / NAME):
            path.unlink(missing_ok=True)
        if made:
            with suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError):
            raise BackupError(f"{folder} cannot be written: {error}") from error
        if isinstance(error, tarfile.TarError | ManifestFault):
            raise BackupError(f"the backup that came is not whole: {error}") from error
        raise
    return manifest


def _make(folder: Path) -> bool:
    """Whether it had to be made."""
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if not folder.is_dir() or any(folder.iterdir()):
            raise BackupError(
                f"{folder} is not empty: each backup has a folder of its own"
            ) from None
        return False
    except OSError as error:
        raise BackupError(f"{folder} cannot be made: {error.strerror}") from error
    return True


def _unpack(stream: Iterable[bytes], folder: Path, written: list[Path]) -> Manifest:
    entries: list[FileEntry] = []
    source = io.BufferedReader(_Raw(iter(stream)), limits.BACKUP_READ_BYTES)
    with tarfile.open(fileobj=source, mode="r|") as archive:
        for member in archive:
            name = member.name
            if not member.isreg() or not _FILE_NAME.fullmatch(name) or len(entries) == _FILES_MAX:
                raise BackupError(f"the backup that came has {name[:80]!r} in it, which is none")
            file = cast("IO[bytes]", archive.extractfile(member))
            if name == NAME:
                text = file.read(limits.MANIFEST_BYTES_MAX)
                manifest = decode_manifest(text)
                if manifest.files != tuple(entries):
                    raise BackupError("the backup that came is damaged: its hashes do not match")
                _write(folder / f"{NAME}.new", io.BytesIO(text), written)
                return manifest
            size_bytes, digest = _write(folder / name, file, written)
            entries.append(FileEntry(name, size_bytes, digest))
    raise BackupError(f"the backup that came is not whole: it ended before its {NAME}")


def _write(path: Path, source: IO[bytes], written: list[Path]) -> tuple[int, str]:
    """Writes a new file and syncs it; returns its size and SHA-256."""
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    written.append(path)
    with open(descriptor, "wb") as file:
        while piece := source.read(limits.BACKUP_READ_BYTES):
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
        return file.tell(), digest.hexdigest()


class _Raw(io.RawIOBase):
    """Pieces that come, as a file that can be read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, into: object) -> int:
        view = memoryview(cast(bytearray, into))
        while not self._rest:
            try:
                piece = next(self._pieces, None)
            except OSError as error:
                # Not to be taken for one of the folder that is written.
                raise BackupError(f"what is backed up cannot be read: {error}") from error
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
