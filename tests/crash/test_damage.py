"""Damaged, cut, missing and foreign files: named, never repaired by dropping data.

A folder is filled once and copied as it is, while the store has it open: what a kill -9 leaves.
Each case damages one file of a copy of its own. Either the folder cannot be opened and the error
names the file, or `verify` finds the fault, or no byte of the answers has changed: then the damage
hit space that holds nothing. What must never happen is a changed answer that nothing warns of.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flowtally.clock import SystemClock
from flowtally.errors import DamagedData, DataFolderError, NotAccepting
from flowtally.model import Batch, Tally
from flowtally.stores.duckdb.store import DuckdbStore
from flowtally.stores.duckdb.verify import verify_folder

_HOURS = range(3)
_FILES = ("journal.sqlite", "journal.sqlite-wal", "sums.duckdb", "sums.duckdb.wal")
_FLIPS = 6
"""Damaged places in one file, each in a copy of its own."""


@dataclass(frozen=True)
class Folders:
    """The same batches: as a kill left them, and as an orderly stop did; and another folder's."""

    killed: Path
    stopped: Path
    foreign: Path


def _batch(index: int) -> Batch:
    flows = {
        (f"app-{index % 7}-{number}", f"dest-{number}", "vpc-0", index % 3): [
            2**53 - 1 - index,
            index,
            1,
        ]
        for number in range(5)
    }
    return Batch(f"key-{index}", True, index.to_bytes(16), Tally(flows), 5)


async def _fill(data: Path, killed: Path) -> None:
    store = DuckdbStore(data, SystemClock())
    await store.start()
    for index in range(40):
        await store.write([_batch(index)])
    await store.sums(0)
    for index in range(40, 60):
        await store.write([_batch(index)])
    await store.sums(0)
    shutil.copytree(data, killed)
    await store.close()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    root = tmp_path_factory.mktemp("folders")
    asyncio.run(_fill(root / "stopped", root / "killed"))
    asyncio.run(_fill(root / "foreign-stopped", root / "foreign"))
    return Folders(root / "killed", root / "stopped", root / "foreign")


async def _answers(data: Path) -> list[list[dict[str, Any]]]:
    store = DuckdbStore(data, SystemClock())
    await store.start()
    try:
        return [(await store.sums(hour)).table.to_pylist() for hour in _HOURS]
    finally:
        await store.close()


def _find(data: Path, name: str) -> str:
    """What is said of a damaged folder; empty where nothing is. The file must be named."""
    try:
        report = verify_folder(data, SystemClock())
    except DataFolderError as error:
        found = str(error)
    else:
        found = "\n".join(report.faults)
        if not found and not report.ledger.balances:
            return f"the ledger does not balance: {report.ledger.total().difference}"
    main = name.removesuffix("-wal").removesuffix(".wal")
    assert not found or main in found, f"{name} is not named: {found}"
    return found


@pytest.mark.parametrize("name", _FILES)
def test_flipped_bytes(folders: Folders, tmp_path: Path, name: str, seed: int) -> None:
    """A whole block in the middle, and single bytes anywhere but in the log's last commit."""
    draw = random.Random(seed)
    source = folders.killed if "wal" in name else folders.stopped
    wanted = asyncio.run(_answers(_copy(source, tmp_path / "sound")))
    size = (source / name).stat().st_size
    # The last commit of the journal's log cannot be told from a write that a power cut tore.
    flippable = size - 40_000 if name == "journal.sqlite-wal" else size
    for index in range(_FLIPS):
        data = _copy(source, tmp_path / f"{index}")
        at = draw.randrange(flippable)
        content = bytearray((data / name).read_bytes())
        content[at] ^= draw.randrange(1, 256)
        (data / name).write_bytes(content)
        if not _find(data, name):
            changed = f"CRASH_SEED={seed}: byte {at} of {name} changed an answer silently"
            assert asyncio.run(_answers(data)) == wanted, changed


def _zero_the_middle(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 3)
        file.write(bytes(size // 3))


def _cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("damage", [_zero_the_middle, _cut_in_half, _empty, Path.unlink])
@pytest.mark.parametrize("name", _FILES)
def test_gross_damage(
    folders: Folders, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    """Named, however often one tries. Only of DuckDB's log a part may be missing that the journal
    still holds: then no byte of the answers may be."""
    source = folders.killed if "wal" in name else folders.stopped
    data = _copy(source, tmp_path / "data")
    damage(data / name)
    before = _content(data / name)
    if _find(data, name):
        assert _find(data, name), "trying again makes the fault vanish"
        with pytest.raises((DamagedData, NotAccepting)):
            asyncio.run(_answers(data))
        if "wal" not in name:
            assert _content(data / name) == before, "the damaged file was changed"
    else:
        assert name == "sums.duckdb.wal"
        wanted = asyncio.run(_answers(_copy(source, tmp_path / "sound")))
        assert asyncio.run(_answers(data)) == wanted


@pytest.mark.parametrize("name", _FILES)
def test_a_foreign_file(folders: Folders, tmp_path: Path, name: str) -> None:
    """Each file says which folder it is of; a mixed pair is refused."""
    data = _copy(folders.killed, tmp_path / "data")
    shutil.copyfile(folders.foreign / name, data / name)
    if name == "journal.sqlite":
        # Its log is of the folder still, and holds every page of it: the file alone has no say.
        wanted = asyncio.run(_answers(_copy(folders.killed, tmp_path / "sound")))
        assert asyncio.run(_answers(data)) == wanted
        return
    with pytest.raises(DamagedData, match=r"sums\.duckdb|journal\.sqlite"):
        asyncio.run(_answers(data))


def test_a_torn_tail_is_not_refused(folders: Folders, tmp_path: Path) -> None:
    """A commit that was not synced when the power went was answered to nobody: it is left out."""
    data = _copy(folders.killed, tmp_path / "data")
    wanted = asyncio.run(_answers(_copy(folders.killed, tmp_path / "sound")))
    log = data / "journal.sqlite-wal"
    last_frame = log.read_bytes()[-4120:]
    with log.open("ab") as file:
        file.write(last_frame[:3000])
    assert asyncio.run(_answers(data)) == wanted
    assert verify_folder(data, SystemClock()).is_sound


def _copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
