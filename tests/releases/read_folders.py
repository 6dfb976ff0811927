"""The folders that `write_folders.py` had a release write, unpacked, and what they must hold."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

from flowtally.clock import SystemClock
from tests.crash.batches import Record, Sending
from tests.crash.service import ROOT

ARCHIVES = {
    path.name.removesuffix(".tar.xz"): path
    for path in sorted((ROOT / "tests/releases").glob("*.tar.xz"))
}
"""By release."""
_FIELDS = ("src_app", "dest_app", "vpc_id", "hour", "bytes_rx", "bytes_tx")


@dataclass(frozen=True)
class Written:
    """One data folder of a release."""

    folder: Path
    batches: tuple[Sending, ...]
    """All that were sent while the folders were written, in order ..."""
    held: tuple[Sending, ...]
    """... and those of them that are in this one."""
    clock_ahead_ms: int
    """Set a clock ahead by this (it is less than 0), and it is still the day when it was written:
    nothing is too old yet."""


def unpack(release: str, name: str, folder: Path) -> Written:
    """Unpacks a release's archive into a new folder."""
    with tarfile.open(ARCHIVES[release]) as archive:
        archive.extractall(folder, filter="data")
    told = json.loads((folder / "told.json").read_bytes())
    batches = tuple(_sending(key, body) for key, body in told["batches"])
    held = batches[: told["stopped"]] if name.endswith("stopped") else batches
    return Written(folder / name, batches, held, told["written_ms"] - SystemClock().now_ms())


def _sending(key: str, body: str) -> Sending:
    """As it was sent; the records are read with an eye that is not the product's."""
    records = tuple(Record(*(one[field] for field in _FIELDS)) for one in json.loads(body))
    return Sending(key, records, body.encode())
