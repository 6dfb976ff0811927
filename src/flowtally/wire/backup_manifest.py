"""What a backup says of itself: `manifest.json`, written last, so that what has none is incomplete.

It has the point that the backup is of, the ledger's accepted batches, records and bytes per arrival
hour, and each file with its size and SHA-256. Around it stands the SHA-256 of its own text.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec

from flowtally.model import Account, BackupPoint

FORMAT = 1
NAME = "manifest.json"
_Digits = Annotated[str, msgspec.Meta(pattern="^[0-9]{1,100}$")]


class ManifestFault(ValueError):
    """It is damaged, or not one that this release reads."""


class FileEntry(msgspec.Struct, frozen=True):
    """One file of the backup."""

    name: str
    bytes: int
    sha256: str


class AcceptedEntry(msgspec.Struct, frozen=True):
    """What had been accepted in an arrival hour; bytes as text, because few readers of JSON keep
    such numbers."""

    arrival_hour: int
    batches: int
    records: int
    bytes_rx: _Digits
    bytes_tx: _Digits


class Manifest(msgspec.Struct, frozen=True):
    """See the module."""

    format: int
    flowtally: str
    """The release that wrote it."""
    store: str
    instance: str
    sequence: int
    taken_ms: int
    accepted: tuple[AcceptedEntry, ...]
    files: tuple[FileEntry, ...]

    @classmethod
    def of(cls, point: BackupPoint, files: tuple[FileEntry, ...], version: str) -> Manifest:
        """Of a point, and the files that are copies of it."""
        accepted = tuple(
            AcceptedEntry(hour, one.batches, one.records, str(one.bytes_rx), str(one.bytes_tx))
            for hour, one in sorted(point.accepted.items())
        )
        return cls(
            FORMAT,
            version,
            point.store,
            point.instance,
            point.sequence,
            point.taken_ms,
            accepted,
            files,
        )

    def accounts(self) -> dict[int, Account]:
        """What had been accepted, by arrival hour."""
        return {
            one.arrival_hour: Account(
                one.batches, one.records, int(one.bytes_rx), int(one.bytes_tx)
            )
            for one in self.accepted
        }


class _Outer(msgspec.Struct):
    manifest: msgspec.Raw
    sha256: str


class _Release(msgspec.Struct):
    """What every format has, so that a newer one is told from a damaged one."""

    format: int
    flowtally: str


def encode_manifest(manifest: Manifest) -> bytes:
    """The text of the file."""
    inner = msgspec.json.encode(manifest)
    digest = hashlib.sha256(inner).hexdigest()
    return b'{"manifest": %b,\n "sha256": "%b"}\n' % (inner, digest.encode())


def decode_manifest(text: bytes) -> Manifest:
    """Raises `ManifestFault` saying what is wrong, in words that follow the file's name."""
    try:
        outer = msgspec.json.decode(text, type=_Outer)
        inner = bytes(outer.manifest)
        if hashlib.sha256(inner).hexdigest() != outer.sha256:
            raise ManifestFault("is damaged: it does not match its own SHA-256")
        release = msgspec.json.decode(inner, type=_Release)
        if release.format > FORMAT:
            raise ManifestFault(
                f"was written by a newer release, flowtally {release.flowtally}: it is of format"
                f" {release.format}, and up to format {FORMAT} is read here"
            )
        return msgspec.json.decode(inner, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestFault(f"is damaged, or no manifest of a backup: {error}") from error
