"""Writes the data folders of a release, for later ones to open: `test_previous_release.py` does.

    git worktree add --detach /tmp/release REVISION
    python -m tests.releases.write_folders /tmp/release tests/releases/0.1.0.tar.xz

The release's own program writes them. Each store has two: one that was stopped in order, and the
same one later, killed with logs and batches in it that are not yet summed. Beside them stands what
was sent, and when.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flowtally.clock import SystemClock
from tests.crash.batches import BatchGenerator, Sending
from tests.crash.calls import Connection, NoAnswer, get, send
from tests.crash.service import free_port, wait_for

FOLDERS = {
    "duckdb-stopped": "duckdb",
    "duckdb-killed": "duckdb",
    "hourly-stopped": "hourly",
    "hourly-killed": "hourly",
    "sql-stopped": "sql",
    "sql-killed": "sql",
    "memory-stopped": "memory",
}
"""Of which store each is."""
_SEED = 1
_STOPPED = 24
_SUMMED = 36
_KILLED = 44
"""How many batches there are when it is stopped, when all are summed once more, and at the kill."""
_WAIT_S_MAX = 120


def main(release: Path, archive: Path) -> None:
    """See the module."""
    generator = BatchGenerator(_SEED, 0)
    batches = [generator.next() for _ in range(_KILLED)]
    with tempfile.TemporaryDirectory() as work:
        folders = Path(work) / "folders"
        folders.mkdir()
        for store in sorted(set(FOLDERS.values())):
            _write(release, store, Path(work) / store, folders, batches)
        told = {
            "written_ms": SystemClock().now_ms(),
            "stopped": _STOPPED,
            "batches": [[one.key, one.body.decode()] for one in batches],
        }
        (folders / "told.json").write_text(json.dumps(told))
        with tarfile.open(archive, "w:xz", preset=9) as tar:
            for path in sorted(folders.iterdir()):
                tar.add(path, path.name, filter=_anonymous)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if member.name.endswith(("/lock", "-shm")):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _write(
    release: Path, store: str, data: Path, folders: Path, batches: Sequence[Sending]
) -> None:
    with _served(release, store, data, signal.SIGTERM) as port:
        _send(port, batches[:_STOPPED])
    shutil.copytree(data, folders / f"{store}-stopped")
    if store == "memory":
        return
    with _served(release, store, data, signal.SIGKILL) as port:
        _send(port, batches[_STOPPED:_SUMMED])
        with Connection(port) as connection:
            assert connection.request("POST", "/v1/aggregate").status == 200
        _send(port, batches[_SUMMED:])
    shutil.copytree(data, folders / f"{store}-killed")


def _send(port: int, batches: Sequence[Sending]) -> None:
    with Connection(port) as connection:
        for one in batches:
            assert send(connection, one.body, one.key).status in (200, 202)


@contextmanager
def _served(release: Path, store: str, data: Path, end: signal.Signals) -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", "flowtally.cli.main", "serve"]
    process = subprocess.Popen(
        [*command, "--store", store, "--data", str(data), "--port", str(port)],
        env={**os.environ, "PYTHONPATH": str(release / "src")},
        cwd=release,
    )

    def is_ready() -> bool:
        assert process.poll() is None, "it has ended"
        try:
            return get(port, "/readyz").status == 200
        except NoAnswer:
            return False

    try:
        wait_for(is_ready, _WAIT_S_MAX, "it is not ready")
        yield port
        process.send_signal(end)
        process.wait(_WAIT_S_MAX)
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute())
