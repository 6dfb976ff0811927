"""The stream of a backup as it is taken in."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from flowtally.client.backup import receive
from flowtally.errors import BackupError
from flowtally.model import BackupPoint
from flowtally.wire.backup_stream import Source, backup_stream

POINT = BackupPoint("memory", "instance", 1, 1_700_000_000_000, {})


def stream(size_bytes: int, content: bytes) -> list[Source]:
    return [Source("memory.parquet", size_bytes, lambda: io.BytesIO(content))]


def test_a_stream_becomes_a_folder(tmp_path: Path) -> None:
    found = receive(backup_stream(POINT, stream(3, b"abc"), "1"), tmp_path / "backup")
    assert [one.bytes for one in found.files] == [3]
    assert (tmp_path / "backup" / "memory.parquet").read_bytes() == b"abc"


def test_who_cannot_read_what_is_backed_up_is_not_sent_to_the_backup(tmp_path: Path) -> None:
    """It is the disk of the data that fails."""
    with pytest.raises(BackupError) as caught:
        receive(backup_stream(POINT, stream(4, b"abc"), "1"), tmp_path / "backup")
    told = "what is backed up cannot be read: memory.parquet became shorter while it was read"
    assert str(caught.value) == told
    assert not (tmp_path / "backup").exists()
