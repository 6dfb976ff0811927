"""One peer's part of a run: what it takes, and how long reads of it take. The sums are checked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.clients import Posting, Target, measure
from benchmarks.peers.peer import Peer
from benchmarks.run import bodies_of, median_ms
from benchmarks.subject import ROOT, SubjectFailed, assert_equal, disk_bytes
from benchmarks.traffic import HOUR_OF_READS, ExpectedSums, Pool, Record, body_of, summed


def measure_peer(
    peer: Peer, pool: Pool, bodies: Path, posting: Posting, folder: Path
) -> dict[str, Any]:
    """Posts to a peer by its own driver."""
    if peer.in_process:
        posting = replace(posting, processes=1)
    pids = peer.start(folder)
    empty_bytes = disk_bytes(folder)
    try:
        target = Target(peer.name, pids, lambda: _command("drive", peer, folder))
        measured, seen = measure(target, pool.batch_records, bodies, posting)
        expected = pool.sums(seen.times)
        hours = sorted({key[3] for key in expected})
        assert_equal(_sums(_ask(peer, folder, hours)), expected, peer.name)
    finally:
        peer.stop()
    # Less what an empty one holds: a server's system tables say nothing of a flow.
    written = disk_bytes(folder) - empty_bytes
    return {
        **asdict(measured),
        "flows": len(expected),
        "disk_bytes": written,
        "disk_bytes_per_flow": written / len(expected),
    }


def read_peer(peer: Peer, records: Sequence[Record], folder: Path, repeats: int) -> dict[str, Any]:
    """Reads of one hour of a peer: after a restart, after each change, and unchanged."""
    folder.mkdir(parents=True)
    bodies, change = folder / "bodies", folder / "change"
    bodies.write_bytes(b"\n".join(bodies_of(records)))
    change.write_bytes(body_of(records[:1]))
    peer.start(folder)
    empty_bytes = disk_bytes(folder)
    try:
        found = _ask(peer, folder, [HOUR_OF_READS], "--bodies", str(bodies))
        assert_equal(_sums(found), summed((record, 1) for record in records), peer.name)
    finally:
        peer.stop()
    written = disk_bytes(folder) - empty_bytes
    peer.start(folder)
    try:
        options = ("--change", str(change), "--repeats", str(repeats))
        found = _ask(peer, folder, [HOUR_OF_READS], *options)
    finally:
        peer.stop()
    expected = [(record, 1) for record in records]
    expected[0] = (records[0], 1 + repeats)
    assert_equal(_sums(found), summed(expected), peer.name)
    return {
        "flows": len(records),
        "disk_bytes_per_flow": written / len(records),
        "cold_ms": median_ms(found["first_s"]),
        "changed_ms": median_ms(found["changed_s"]),
        "unchanged_ms": median_ms(found["unchanged_s"]),
    }


def _command(module: str, peer: Peer, folder: Path) -> list[str]:
    command = [sys.executable, "-m", f"benchmarks.peers.{module}"]
    return [*command, "--peer", peer.name, "--folder", str(folder)]


def _ask(peer: Peer, folder: Path, hours: Sequence[int], *options: str) -> dict[str, Any]:
    command = [*_command("ask", peer, folder), "--hours", *map(str, hours), *options]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise SubjectFailed(f"{peer.name} could not be read: {ended.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return answer


def _sums(answer: dict[str, Any]) -> ExpectedSums:
    return {(*row[:3], row[3]): (row[4], row[5]) for row in answer["sums"]}
