"""What a newer release wrote is refused, with both versions named, and not one byte of it changes.

Each kind of file is given a newer format, in a folder that a killed service left with its logs.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import duckdb
import msgspec
import pytest

from flowtally import __version__
from tests.crash.backups import back_up, flowtally, resend, restore
from tests.crash.batches import BatchGenerator
from tests.crash.calls import get
from tests.crash.service import Service, running

_NEWER = 99
_NOT_DATA = ("lock", "-shm")
"""Who has the folder, and what SQLite's processes share in memory."""


def _journal(data: Path) -> None:
    _in_sqlite(data / "journal.sqlite", f"UPDATE state SET format = {_NEWER}")


def _results(data: Path) -> None:
    _in_sqlite(data / "results.sqlite", f"UPDATE state SET format = {_NEWER}")


def _tables(data: Path) -> None:
    _in_sqlite(data / "flows.sqlite", f"UPDATE flowtally_version SET version_num = '{_NEWER}'")


def _in_sqlite(path: Path, change: str) -> None:
    """The change is in the log, beside what was there; the last one to close would bring it in."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(change)
        kept = path.with_name("kept")
        kept.mkdir()
        for file in (path, path.with_name(f"{path.name}-wal")):
            shutil.copy(file, kept)
    for file in kept.iterdir():
        file.replace(path.with_name(file.name))
    kept.rmdir()
    assert path.with_name(f"{path.name}-wal").stat().st_size > 0


def _sums(data: Path) -> None:
    options = {"checkpoint_threshold": "1TB"}
    with closing(duckdb.connect(str(data / "sums.duckdb"), config=options)) as connection:
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        connection.execute(f"UPDATE state SET format = {_NEWER}")
        connection.execute("CHECKPOINT")
        connection.execute("UPDATE state SET expired_ms = expired_ms + 1")
    assert (data / "sums.duckdb.wal").stat().st_size > 0


def _duckdb(data: Path) -> None:
    """The file's own version, in its first block, under that block's checksum."""
    with (data / "sums.duckdb").open("r+b") as file:
        block = bytearray(file.read(4096))
        assert struct.unpack("<Q", block[:8])[0] == _checksum(block[8:])
        block[12:20] = struct.pack("<Q", 1999)
        file.seek(0)
        file.write(struct.pack("<Q", _checksum(block[8:])) + block[8:])


def _checksum(block: bytes | bytearray) -> int:
    found = 5381
    for (word,) in struct.iter_unpack("<Q", block):
        found ^= word * 0xBF58476D1CE4E5B9 % 2**64
    return found


def _snapshot(data: Path) -> None:
    whole = (data / "memory.parquet").read_bytes()
    at = whole.index(b"flowtally-state") + len(b"flowtally-state")
    (data / "memory.parquet").write_bytes(whole[:at] + bytes([_NEWER]) + whole[at + 1 :])


@pytest.mark.parametrize(
    ("store", "make_newer", "told"),
    [
        ("duckdb", _journal, str(_NEWER)),
        ("duckdb", _sums, str(_NEWER)),
        ("duckdb", _duckdb, "1999"),
        ("hourly", _journal, str(_NEWER)),
        ("hourly", _results, str(_NEWER)),
        ("sql", _tables, str(_NEWER)),
        ("memory", _snapshot, str(_NEWER)),
    ],
)
def test_a_newer_file_is_refused_and_left_as_it_is(
    service: Service, store: str, make_newer: Callable[[Path], None], told: str
) -> None:
    service.set(store=store, aggregate_interval_s=0.1, snapshot_interval_s=3600.0)
    service.start_ready()
    generator = BatchGenerator(1, 0)
    resend(service, [generator.next() for _ in range(30)])
    assert get(service.port, "/v1/flows?hour=1").status == 200
    if store == "memory":
        # Its snapshot is written at the end; the mark of a killed one is set afterwards.
        assert service.stop() == 0
        (service.data / "memory.open").write_bytes(b'{"sequence": 7}')
        (service.data / "memory.parquet.new").write_bytes(b"half of it")
    service.kill()
    make_newer(service.data)
    before = _bytes_in(service.data)
    service.start(by_exec=True)
    assert service.wait_ended() not in (0, -9)
    _assert_both_named(service.output(), told)
    assert _bytes_in(service.data) == before
    backup = service.folder / "backup"
    for command in (("verify",), ("backup", backup)):
        done = flowtally(*command, "--store", store, "--data", service.data)
        assert done.returncode == 1, done
        _assert_both_named(done.stderr, told)
        assert _bytes_in(service.data) == before
    assert not backup.exists()


def _assert_both_named(text: str, told: str) -> None:
    assert "newer release" in text, text
    assert told in text, text
    assert f"flowtally {__version__}" in text, text


def _bytes_in(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(_NOT_DATA)
    }


def test_a_newer_manifest_is_refused(service: Service) -> None:
    with running(service):
        service.start_ready()
        backup = service.folder / "backup"
        back_up(service, backup)
    path = backup / "manifest.json"
    whole = path.read_bytes()
    inner = msgspec.json.decode(whole)["manifest"]
    # Also with fields that this release knows nothing of, and without some that it knows.
    for changed in ({**inner, "format": _NEWER}, {"format": _NEWER, "flowtally": "9.9.9"}):
        version = str(changed["flowtally"])
        text = msgspec.json.encode(changed)
        digest = hashlib.sha256(text).hexdigest()
        path.write_bytes(b'{"manifest": %b, "sha256": "%b"}' % (text, digest.encode()))
        before = _bytes_in(backup)
        done = flowtally("restore", backup, "--data", service.folder / "restored")
        assert done.returncode == 1, done
        _assert_both_named(done.stderr, str(_NEWER))
        assert version in done.stderr
        assert _bytes_in(backup) == before
        assert not (service.folder / "restored").exists()
    path.write_bytes(whole)
    restore(backup, service.folder / "restored")
