"""A folder of the previous release is opened: its sums are exact, its batch_ids are remembered, and
what is written to it from then on is as safe as in one of this release.

The folders are that release's own, as `tests/releases/write_folders.py` had them written.
"""

from __future__ import annotations

import pytest

from tests.crash.backups import assert_sums, back_up, flowtally, resend, restore
from tests.crash.service import Service
from tests.releases.read_folders import ARCHIVES, unpack
from tests.releases.write_folders import FOLDERS

_BYTES_MAX = 200 * 1024


def test_they_are_small() -> None:
    assert ARCHIVES
    assert sum(path.stat().st_size for path in ARCHIVES.values()) < _BYTES_MAX


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("release", ARCHIVES)
def test_its_folders_are_opened(service: Service, release: str, name: str) -> None:
    written = unpack(release, name, service.folder / "unpacked")
    batches, held = list(written.batches), list(written.held)
    written.folder.rename(service.data)
    service.set(
        store=FOLDERS[name], snapshot_interval_s=3600.0, clock_ahead_ms=written.clock_ahead_ms
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
