"""Backups of the real process under load: exact at one point, whole or refused, and of no cost to
what goes on."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from flowtally.clock import SystemClock
from flowtally.errors import BackupError
from flowtally.stores.restoring import restore as restore_backup
from flowtally.wire.backup_manifest import (
    AcceptedEntry,
    FileEntry,
    decode_manifest,
    encode_manifest,
)
from tests.crash.backups import (
    Senders,
    assert_sums,
    back_up,
    begin,
    flowtally,
    resend,
    restore,
    sending,
)
from tests.crash.batches import Record, Sending, encode
from tests.crash.calls import get
from tests.crash.service import Service, running, wait_for
from tests.postgres import Postgres

STORES = ("duckdb", "hourly", "sql", "memory")
RECORD = b'[{"src_app":"a","dest_app":"b","vpc_id":"v","hour":1,"bytes_rx":1,"bytes_tx":0}]'
_MIB = 1024 * 1024


@pytest.fixture(params=STORES)
def any_service(service: Service, request: pytest.FixtureRequest) -> Service:
    """Not yet started, of each store; what is done in the background comes up all the time."""
    service.set(store=request.param, aggregate_interval_s=0.2, snapshot_interval_s=3600.0)
    return service


def restored(service: Service, folder: Path, name: str) -> Service:
    """A service on what is restored of a backup, not yet started."""
    other = Service(service.folder / name)
    restore(folder, other.data)
    other.set(
        store=service.launch.store,
        aggregate_interval_s=service.launch.aggregate_interval_s,
        snapshot_interval_s=service.launch.snapshot_interval_s,
    )
    return other


def those_in(data: Path, sendings: list[Sending]) -> list[Sending]:
    """Those whose key is in the data folder, up to the manifest's point: read from its tables."""
    keys: set[str] = set()
    for name, table in (("journal.sqlite", "batch_ids"), ("flows.sqlite", "flowtally_batch_ids")):
        if (data / name).exists():
            with closing(sqlite3.connect(data / name)) as connection:
                keys |= {key for (key,) in connection.execute(f"SELECT batch_id FROM {table}")}
    if (data / "memory.parquet").exists():
        import pyarrow.parquet as pq

        rows = pq.read_table(data / "memory.parquet", columns=["batch_id"])
        keys |= set(rows.column("batch_id").to_pylist())
    return [one for one in sendings if one.key in keys]


def test_exact_at_its_point_under_load(any_service: Service, seed: int, tmp_path: Path) -> None:
    """Compaction, checkpoints and runs come up all the time meanwhile."""
    service = any_service
    service.start_ready()
    befores: list[list[Sending]] = []
    with sending(service, seed) as senders:
        for count in range(3):
            befores.append(list(senders.acknowledged))
            back_up(service, tmp_path / f"backup-{count}")
            senders.wait_for_more(20)
    everything = senders.all()
    assert not senders.unanswered, service.output()
    assert_sums(service, everything)
    assert not (service.data / "backup.new").exists()
    for count, before in enumerate(befores):
        other = restored(service, tmp_path / f"backup-{count}", f"restored-{count}")
        held = those_in(other.data, everything)
        with running(other):
            other.start_ready()
            assert {one.key for one in before} <= {one.key for one in held}
            assert len(held) < len(everything)
            assert_sums(other, held)
            assert resend(other, everything) == held
            assert_sums(other, everything)
            assert other.stop() == 0


@pytest.mark.parametrize("store", ["duckdb", "hourly"])
def test_the_point_is_a_sequence_number(service: Service, seed: int, store: str) -> None:
    """Of all batches those up to it are in the backup, and none after it."""
    service.set(store=store, aggregate_interval_s=0.2)
    service.start_ready()
    backup = service.folder / "backup"
    with sending(service, seed) as senders:
        back_up(service, backup)
        senders.wait_for_more(20)
    service.stop()
    point = decode_manifest((backup / "manifest.json").read_bytes()).sequence
    query = "SELECT batch_id FROM batch_ids WHERE sequence <= ? ORDER BY sequence"
    held = []
    for data in (service.data, backup):
        with closing(sqlite3.connect(data / "journal.sqlite")) as journal:
            held.append(journal.execute(query, (point,)).fetchall())
    assert held[0] == held[1] != []


def test_of_a_stopped_folder_and_of_a_killed_one(any_service: Service, seed: int) -> None:
    """All that was acknowledged is in it, whatever was left in the logs."""
    service = any_service
    service.start_ready()
    with sending(service, seed) as senders:
        pass
    if service.launch.store == "memory":
        service.stop()
    service.kill()
    backup = service.folder / "backup"
    done = flowtally("backup", backup, "--data", service.data)
    assert done.returncode == 0, done.stderr
    other = restored(service, backup, "restored")
    for one in (other, service):
        with running(one):
            one.start_ready()
            assert_sums(one, senders.all())
            one.stop()


def test_what_was_told_of_a_later_state_is_not_taken_for_a_restored_one(service: Service) -> None:
    """The same revision comes again for other sums: no ETag of the old service may match them."""
    service.start_ready()
    backup = service.folder / "backup"
    back_up(service, backup)
    other = restored(service, backup, "restored")
    tags, revisions = [], []
    for one, bytes_rx in ((service, 1), (other, 2)):
        with running(one):
            if not one.is_alive():
                one.start_ready()
            body = [{"src_app": "a", "dest_app": "b", "vpc_id": "v", "hour": 1,
                     "bytes_rx": bytes_rx, "bytes_tx": 0}]  # fmt: skip
            resend(one, [Sending("key", (), json.dumps(body).encode())])
            answer = get(one.port, "/v1/flows?hour=1")
            tags.append(answer.headers["etag"])
            revisions.append(answer.headers["flowtally-revision"])
    assert revisions[0] == revisions[1]
    assert tags[0] != tags[1]
    whose = [tag.split("-")[3] for tag in tags]
    assert whose[0] != whose[1]


def test_each_damaged_byte_is_refused_by_the_name_of_its_file(any_service: Service) -> None:
    service = any_service
    service.start_ready()
    backup = service.folder / "backup"
    back_up(service, backup)
    target = service.folder / "restored"
    names = sorted(path.name for path in backup.iterdir())
    for name in names:
        size = (backup / name).stat().st_size
        for at in sorted({0, size // 3, size // 2, size - 2}):
            _flip(backup / name, at)
            done = flowtally("restore", backup, "--data", target)
            assert done.returncode == 1, (name, at)
            assert str(backup / name) in done.stderr, (name, at, done.stderr)
            assert not target.exists() and not list(service.folder.glob(".*"))
            _flip(backup / name, at)
    restore(backup, target)


def _flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        was = file.read(1)
        file.seek(at)
        file.write(bytes([was[0] ^ 0x04]))


def test_what_is_missing_or_too_much_is_refused(service: Service) -> None:
    service.start_ready()
    backup, other = service.folder / "backup", service.folder / "other"
    back_up(service, backup)
    target = service.folder / "restored"

    def refused() -> str:
        done = flowtally("restore", other, "--data", target)
        assert done.returncode == 1 and not target.exists()
        shutil.rmtree(other)
        return done.stderr

    for name in ("journal.sqlite", "sums.duckdb"):
        shutil.copytree(backup, other)
        (other / name).unlink()
        assert name in refused()
    shutil.copytree(backup, other)
    (other / "manifest.json").unlink()
    assert "no whole backup: it has no manifest.json" in refused()
    shutil.copytree(backup, other)
    (other / "notes.txt").touch()
    assert "notes.txt" in refused()
    done = flowtally("restore", backup, "--data", service.data)
    assert done.returncode == 1 and "is not empty" in done.stderr
    done = flowtally("backup", backup, "--url", f"http://127.0.0.1:{service.port}")
    assert done.returncode == 1 and "is not empty" in done.stderr
    restore(backup, target)


def test_a_manifest_that_lies_is_refused(any_service: Service) -> None:
    """Whoever made it knows how to sign it: it is refused for what it says, in one line."""
    service = any_service
    service.start_ready()
    backup, other = service.folder / "backup", service.folder / "other"
    assert resend(service, [Sending("k", (), RECORD)]) == []
    back_up(service, backup)
    manifest = decode_manifest((backup / "manifest.json").read_bytes())
    first, [accepted] = manifest.files[0], manifest.accepted

    def lying(**said: object) -> bytes:
        return encode_manifest(msgspec.structs.replace(manifest, **said))

    def of(entry: FileEntry | AcceptedEntry, **said: object) -> bytes:
        name = "files" if entry is first else "accepted"
        others = manifest.files[1:] if entry is first else ()
        return lying(**{name: (msgspec.structs.replace(entry, **said), *others)})

    lies = [lying(store=store) for store in (*STORES, "", "postgres") if store != manifest.store]
    lies += [
        of(first, name=name)
        for name in (f"../{backup.name}/{first.name}", str(backup / first.name))
    ]
    lies += [
        of(first, bytes=-1),
        of(first, sha256=""),
        lying(files=()),
        lying(files=(*manifest.files, first)),
        lying(accepted=()),
        of(accepted, batches=2),
        of(accepted, bytes_rx="2"),
        of(accepted, bytes_rx="-1"),
        of(accepted, bytes_rx="x"),
        of(accepted, bytes_tx="9" * 5_000),
        b'{"manifest": ' + b"[" * 100_000,
        b"\xff",
        b"",
    ]
    for lie in lies:
        shutil.copytree(backup, other)
        (other / "manifest.json").write_bytes(lie)
        refused(service, other, lie[:300])
    # A file that is none of the store's, rightly hashed.
    (backup / first.name).write_bytes(b"nonsense")
    digest = hashlib.sha256(b"nonsense").hexdigest()
    (backup / "manifest.json").write_bytes(of(first, bytes=8, sha256=digest))
    refused(service, backup, b"nonsense")


def refused(service: Service, backup: Path, why: bytes) -> None:
    """With a word about it and nothing left; and the backup is removed."""
    target = service.folder / "restored"
    with pytest.raises(BackupError):
        restore_backup(backup, target, SystemClock())
    assert not target.exists() and not list(service.folder.glob(".*")), why
    shutil.rmtree(backup)


def test_two_restores_at_once(service: Service) -> None:
    """The one that came second leaves alone what the first one is at, wherever that is."""
    service.start_ready()
    backup, target = service.folder / "backup", service.folder / "restored"
    assert resend(service, [Sending("k", (), RECORD)]) == []
    back_up(service, backup)
    beside = service.folder / ".restored.restoring"
    beside.mkdir()
    (beside / "sums.duckdb").write_bytes(b"of a restore that was killed")
    first = begin("restore", backup, "--data", target)
    try:
        wait_for(lambda: (beside / "journal.sqlite").exists(), 60, "it does not begin")
        os.kill(first.pid, signal.SIGSTOP)
        done = flowtally("restore", backup, "--data", target)
        assert done.returncode == 1 and "another restore" in done.stderr, done
    finally:
        os.kill(first.pid, signal.SIGCONT)
        assert first.wait(60) == 0
    assert not beside.exists()
    assert flowtally("verify", "--data", target).returncode == 0


@pytest.mark.parametrize("store", ["duckdb", "hourly"])
def test_who_does_not_read_keeps_nobody_waiting_and_leaves_nothing(
    service: Service, seed: int, store: str
) -> None:
    """A client that asks and reads nothing, for long enough that batches, checkpoints and another
    client's refusal go by; then it is gone."""
    service.set(store=store, aggregate_interval_s=0.2)
    service.start_ready()
    large = _larger_than_socket_buffers(seed)
    assert resend(service, large) == []
    with sending(service, seed) as senders:
        with _asked(service):
            _until_staged(service)
            senders.wait_for_more(200)
            done = flowtally(
                "backup", service.folder / "b", "--url", f"http://127.0.0.1:{service.port}"
            )
            assert done.returncode == 1 and "one at a time" in done.stderr, done
            assert not (service.folder / "b").exists()
        wait_for(lambda: not (service.data / "backup.new").exists(), 60, "it is still there")
        back_up(service, service.folder / "b")
    assert_sums(service, [*large, *senders.all()])


def _larger_than_socket_buffers(seed: int) -> list[Sending]:
    """What does not compress: some 20 MB of names."""
    draw = random.Random(seed)
    found = []
    for count in range(3):
        records = tuple(
            Record(draw.randbytes(40).hex(), draw.randbytes(40).hex(), "v", 1, 1, 2)
            for _ in range(60_000)
        )
        found.append(Sending(f"large-{count}", records, encode(records, draw)))
    return found


def _asked(service: Service) -> socket.socket:
    """A client that asks for a backup and takes a few bytes of it at most."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", service.port))
    client.sendall(b"POST /v1/backup HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
    return client


def _until_staged(service: Service) -> None:
    staging = service.data / "backup.new"

    def holds() -> bool:
        return staging.exists() and any(path.suffix != ".sqlite" for path in staging.iterdir())

    wait_for(lambda: staging.exists() and (service.launch.store != "duckdb" or holds()), 60, "no")


@pytest.mark.parametrize("store", ["duckdb", "hourly", "sql"])
def test_the_service_is_killed_in_the_middle(
    service: Service, seed: int, store: str, tmp_path: Path
) -> None:
    """Nothing is lost, nothing is left at the next start, and what came of it is no backup."""
    service.set(store=store, aggregate_interval_s=0.2)
    service.start_ready()
    with sending(service, seed) as senders, _asked(service):
        wait_for((service.data / "backup.new").exists, 60, "no backup begins")
        service.kill()
    acknowledged = senders.acknowledged
    service.start_ready()
    assert not (service.data / "backup.new").exists()
    assert set(resend(service, senders.all())) >= set(acknowledged)
    assert_sums(service, senders.all())
    back_up(service, tmp_path / "backup")


def test_the_client_is_killed_in_the_middle(service: Service, seed: int, tmp_path: Path) -> None:
    service.start_ready()
    assert resend(service, _larger_than_socket_buffers(seed)) == []
    with sending(service, seed):
        backup = next(
            folder
            for folder in (tmp_path / f"backup-{attempt}" for attempt in range(20))
            if _killed_before_its_end(service, folder)
        )
        wait_for(lambda: not (service.data / "backup.new").exists(), 60, "it is still there")
    done = flowtally("restore", backup, "--data", tmp_path / "restored")
    assert done.returncode == 1 and "no whole backup" in done.stderr
    assert not (tmp_path / "restored").exists()


def _killed_before_its_end(service: Service, backup: Path) -> bool:
    """False where the client was faster than the kill."""
    client = begin("backup", backup, "--url", f"http://127.0.0.1:{service.port}")
    wait_for(lambda: backup.exists() and any(backup.iterdir()), 60, "nothing comes")
    os.kill(client.pid, signal.SIGKILL)
    client.wait()
    return not (backup / "manifest.json").exists()


@pytest.mark.parametrize("store", ["duckdb", "hourly", "sql"])
def test_a_disk_without_room(service_on_small_disk: Service, seed: int, store: str) -> None:
    """Refused before anything is copied, with what is missing; the service goes on."""
    service = service_on_small_disk
    service.set(store=store)
    service.start_ready()
    status = os.statvfs(service.data)
    keep = 64 * _MIB + 8192
    with (service.data.parent / "ballast").open("wb") as ballast:
        ballast.write(bytes(max(status.f_bavail * status.f_frsize - keep, 0)))
    backup = service.folder / "backup"
    with sending(service, seed) as senders:
        done = flowtally("backup", backup, "--url", f"http://127.0.0.1:{service.port}")
        assert done.returncode == 1, done
        assert "no room for a backup" in done.stderr and not backup.exists()
        assert not (service.data / "backup.new").exists()
    assert_sums(service, senders.acknowledged)


def test_a_target_without_room(service: Service, seed: int, small_disk: Path) -> None:
    """What is received does not fit: nothing is left of it, and the service goes on."""
    service.start_ready()
    ballast = small_disk / "ballast"
    status = os.statvfs(small_disk)
    ballast.write_bytes(bytes(status.f_bavail * status.f_frsize - 128 * 1024))
    with sending(service, seed):
        backup = small_disk / "backup"
        done = flowtally("backup", backup, "--url", f"http://127.0.0.1:{service.port}")
        assert done.returncode == 1 and "No space left" in done.stderr
        assert not backup.exists()
        ballast.unlink()
        back_up(service, backup)
    done = flowtally("restore", backup, "--data", small_disk / "data")
    assert done.returncode == 0, done.stderr


def test_while_rows_expire(service: Service, seed: int) -> None:
    """A week later, at the moment of the expiry: each backup balances, before or after it."""
    service.start_ready()
    with sending(service, seed):
        pass
    service.stop()
    service.set(clock_ahead_ms=8 * 24 * 3_600_000)
    service.start_ready()
    with sending(service, seed + 1):
        for count in range(3):
            back_up(service, service.folder / f"backup-{count}")
            restore(service.folder / f"backup-{count}", service.folder / f"restored-{count}")


def test_postgres_is_told_to_its_own_tools(service: Service, postgres: Postgres) -> None:
    url = postgres.url(service.folder)
    service.set(store="sql", sql_url=url)
    service.start_ready()
    backup = service.folder / "backup"
    for where in (("--url", f"http://127.0.0.1:{service.port}"), ("--sql-url", url)):
        done = flowtally("backup", backup, *where)
        assert done.returncode == 2, done
        assert "pg_dump" in done.stderr and not backup.exists()


def test_senders_stop_where_the_service_does(service: Service, seed: int) -> None:
    """The tests' own: what was not answered is told apart."""
    service.start_ready()
    senders = Senders(service.port, seed)
    senders.start()
    senders.wait_for_more(5)
    service.kill()
    senders.stop()
    assert senders.unanswered
