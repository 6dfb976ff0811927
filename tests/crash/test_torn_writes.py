"""The process is killed in the middle of a write.

The kernel may stop a write of 256 KiB between two pages when a kill comes, as a disk may when the
power goes. At random that strikes once in a thousand kills; `faults.c` does it to the write that is
worst: the block of DuckDB's metadata that a checkpoint writes again in its place.
"""

from __future__ import annotations

import random
import struct
from pathlib import Path

from tests.crash.accounts import assert_exact, assert_sound
from tests.crash.expected import Expected
from tests.crash.service import READY_S_MAX, Service, wait_for
from tests.crash.writers import Writers

_TEARS = 3
_BLOCK_BYTES = 262_144
_PAGE_BYTES = 4096


def test_a_checkpoint_is_killed_in_the_middle_of_a_block(
    service: Service, seed: int, faults_library: Path
) -> None:
    draw = random.Random(seed)
    order, log = service.folder / "tear", service.folder / "torn.log"
    sums = service.data / "sums.duckdb"
    faults = {
        "LD_PRELOAD": str(faults_library),
        "FAULTS_LOG": str(log),
        "FAULTS_TEAR": str(order),
    }
    service.start_ready()
    expected = Expected()
    writers = Writers(service.port, seed, expected)
    writers.start()
    try:
        for tear in range(1, _TEARS + 1):
            assert writers.wait_acknowledged(10, READY_S_MAX)
            service.kill()
            # The first page holds the checksum; how many more are written makes the rest.
            written = 8 if tear == 1 else _PAGE_BYTES * draw.choice([1, 2, 4, 8, 32])
            order.write_text(f"{metadata_offset(sums)} {written} {sums}")
            service.environment = faults
            # It brings the log into the file before it does anything else.
            service.start()
            wait_for(lambda: not service.is_alive(), READY_S_MAX, "it lives", service.output)
            assert log.read_text().count("torn ") == tear, service.output()
            service.environment = {}
            service.start_ready()
        assert writers.wait_acknowledged(10, READY_S_MAX)
        writers.stop(READY_S_MAX)
    except BaseException:
        writers.abandon()
        raise
    assert_exact(service, expected)
    assert service.stop() == 0, service.output()
    assert_sound(service.data, expected)


def metadata_offset(sums: Path) -> int:
    """Where the block begins that the last checkpoint's header points into.

    A DuckDB file: three headers of 4 KiB, the second and third of checkpoints that take turns
    (checksum, number, pointer to the tables' metadata, ...), then blocks.
    """
    head = sums.read_bytes()[: 3 * _PAGE_BYTES]
    _, pointer = max(struct.unpack_from("<8xQQ", head, at) for at in (_PAGE_BYTES, 2 * _PAGE_BYTES))
    return 3 * _PAGE_BYTES + _BLOCK_BYTES * int(pointer & (2**56 - 1))
