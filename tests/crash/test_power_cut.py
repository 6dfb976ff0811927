"""The power is cut: of each file only what was synced is left, of the folder only synced names.

`faults.c` keeps such an image beside the data folder, the least that a disk may keep. The process
is killed, the folder is replaced by the image, and all that was acknowledged must be in it.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from tests.crash.accounts import assert_exact, assert_sound
from tests.crash.expected import Expected
from tests.crash.service import READY_S_MAX, Service
from tests.crash.writers import Writers

_CUTS = 4


def test_power_cuts(service: Service, seed: int, faults_library: Path) -> None:
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
        for cut in range(_CUTS):
            assert writers.wait_acknowledged(draw.randint(10, 60), READY_S_MAX)
            service.kill()
            cut_power(service.data, image, service.folder / f"before-cut-{cut + 1}")
            service.start_ready()
        assert writers.wait_acknowledged(10, READY_S_MAX)
        writers.stop(READY_S_MAX)
    except BaseException:
        writers.abandon()
        raise
    assert_exact(service, expected)
    assert service.stop() == 0, service.output()
    assert_sound(service.data, expected)


def cut_power(data: Path, image: Path, aside: Path) -> None:
    """Replaces the data folder by its image; keeps what the process had seen, to look at."""
    data.rename(aside)
    data.mkdir(mode=0o700)
    for line in (image / "names").read_text().splitlines():
        identity, name = line.split(" ")
        synced = image / identity
        if synced.exists():
            shutil.copyfile(synced, data / name)
        else:
            (data / name).touch()
    shutil.rmtree(image)
    image.mkdir()
