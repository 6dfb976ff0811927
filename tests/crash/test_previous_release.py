"""A folder of the previous release is opened: its sums are exact, its batch_ids are remembered, and
what is written to it from then on is as safe as in one of this release.

The folders are that release's own, as `tests/releases/write_folders.py` had them written.
"""

from __future__ import annotations

import json
import tarfile

import pytest

from flowtally.clock import SystemClock
from tests.crash.backups import assert_sums, back_up, flowtally, resend, restore
from tests.crash.batches import Record, Sending
from tests.crash.service import ROOT, Service
from tests.releases.write_folders import FOLDERS

_RELEASES = sorted((ROOT / "tests/releases").glob("*.tar.xz"))
_BYTES_MAX = 200 * 1024


def test_they_are_small() -> None:
    assert _RELEASES
    assert sum(path.stat().st_size for path in _RELEASES) < _BYTES_MAX


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("release", [path.name.removesuffix(".tar.xz") for path in _RELEASES])
def test_its_folders_are_opened(service: Service, release: str, name: str) -> None:
    unpacked = service.folder / "unpacked"
    with tarfile.open(ROOT / f"tests/releases/{release}.tar.xz") as archive:
        archive.extractall(unpacked, filter="data")
    told = json.loads((unpacked / "told.json").read_bytes())
    batches = [_sending(key, body) for key, body in told["batches"]]
    held = batches[: told["stopped"]] if name.endswith("stopped") else batches
    (unpacked / name).rename(service.data)
    # As if it were still the day when it was written: nothing is too old yet.
    service.set(
        store=FOLDERS[name],
        snapshot_interval_s=3600.0,
        clock_ahead_ms=told["written_ms"] - SystemClock().now_ms(),
    )
    service.start_ready()
    assert_sums(service, held)
    assert resend(service, batches) == held
    assert_sums(service, batches)
    backup = service.folder / "backup"
    back_up(service, backup)
    assert service.stop() == 0
    done = flowtally("verify", "--store", FOLDERS[name], "--data", service.data)
    assert done.returncode == 0, done
    service.start_ready()
    assert_sums(service, batches)
    restore(backup, service.folder / "restored")


def _sending(key: str, body: str) -> Sending:
    """As it was sent; the records are read with an eye that is not the product's."""
    fields = ("src_app", "dest_app", "vpc_id", "hour", "bytes_rx", "bytes_tx")
    records = tuple(Record(*(one[field] for field in fields)) for one in json.loads(body))
    return Sending(key, records, body.encode())
