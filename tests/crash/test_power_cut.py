"""The power is cut: what was synced is left, and of the rest what the disk happens to have written.

`faults.c` keeps an image beside the data folder, the least that a disk may keep: of each file what
was synced, of the folder the synced names. A real disk may have written any other page as well, in
any order. The process is killed, the folder is replaced by the image, or by the image with some
pages as the process saw them last, and all that was acknowledged must be in it.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.crash.accounts import assert_exact, assert_sound
from tests.crash.expected import Expected
from tests.crash.service import READY_S_MAX, Service
from tests.crash.writers import Writers

_KEPT = (0.0, 0.5, 0.0, 0.9, 0.5)
"""Cuts, each with the share of the pages not synced that the disk has written all the same."""
_PAGE_BYTES = 4096


@pytest.mark.parametrize(("store", "cuts"), [("duckdb", len(_KEPT)), ("hourly", 3), ("sql", 3)])
def test_power_cuts(
    service: Service, seed: int, faults_library: Path, store: str, cuts: int
) -> None:
    service.set(store=store, aggregate_interval_s=0.05)
    draw = random.Random(seed)
    image = service.folder / "image"
    image.mkdir()
    service.environment = {
        "LD_PRELOAD": str(faults_library),
        "FAULTS_IMAGE": str(image),
        "FAULTS_DATA": str(service.data),
    }
    service.start_ready()
    expected = Expected()
    writers = Writers(service.port, seed, expected)
    writers.start()
    try:
        for cut, kept in enumerate(_KEPT[:cuts], 1):
            assert writers.wait_acknowledged(draw.randint(10, 60), READY_S_MAX)
            service.kill()
            aside = service.folder / f"before-cut-{cut}"
            cut_power(service.data, image, aside, Disk(draw, kept))
            service.start_ready()
        assert writers.wait_acknowledged(10, READY_S_MAX)
        writers.stop(READY_S_MAX)
    except BaseException:
        writers.abandon()
        raise
    assert_exact(service, expected)
    assert service.stop() == 0, service.output()
    assert_sound(service.data, expected)


class Disk:
    """What a disk makes of a file of which only a part was synced."""

    def __init__(self, draw: random.Random, kept: float) -> None:
        self._draw = draw
        self._kept = kept

    def leaves(self, synced: bytes, seen: bytes) -> bytes:
        """Each page as it was synced, or as the process saw it last; a page that was never written
        is empty, and the file ends behind the last one that was."""
        left = bytearray(synced)
        for at in range(0, len(seen), _PAGE_BYTES):
            page = seen[at : at + _PAGE_BYTES]
            if page != synced[at : at + _PAGE_BYTES] and self._draw.random() < self._kept:
                left.extend(bytes(max(0, at + len(page) - len(left))))
                left[at : at + len(page)] = page
        return bytes(left)


def cut_power(data: Path, image: Path, aside: Path, disk: Disk) -> None:
    """Replaces the data folder by its image; keeps what the process had seen, to look at."""
    data.rename(aside)
    data.mkdir(mode=0o700)
    for line in (image / "names").read_text().splitlines():
        identity, name = line.split(" ")
        synced = image / identity
        left = synced.read_bytes() if synced.exists() else b""
        # The process may have put another file under this name since.
        if (aside / name).exists() and identity_of(aside / name) == identity:
            left = disk.leaves(left, (aside / name).read_bytes())
        (data / name).write_bytes(left)
    shutil.rmtree(image)
    image.mkdir()


def identity_of(path: Path) -> str:
    """As `faults.c` names it: by its inode and its birth, because inodes are used again."""
    found = subprocess.check_output(["stat", "--format=%i-%W.%w", path], text=True)
    # The birth has its second in the one form, its nanosecond in the other.
    inode_and_second, born = found.split(".", 1)
    return f"{inode_and_second}.{int(born.split('.')[1].split(' ')[0])}"
