"""A process that has imported everything and forks services from itself: starts without imports.

Most of a start is importing, which no crash can disturb; without it a test kills ten times as often
in the same time. A forked service is a process like any other: it opens its files after the fork,
and kill -9 ends it as it ends one that was started by `exec`. Where a fault must be loaded with the
process, and now and then in `make crash`, services are started by `exec`.

The nursery forks twice, so a service is nobody's child but ours: this process adopts it (it is a
"subreaper") and sees its exit code.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.005
_IMPORTED = (
    "flowtally.api.server",
    "flowtally.cli.serve",
    "flowtally.compose",
    "flowtally.observe.logs",
    "flowtally.stores.duckdb.store",
    "flowtally.stores.memory_columns",
    "flowtally.stores.sql.postgres",
    "flowtally.stores.sql.sqlite",
    "flowtally.stores.sql.store",
    "psycopg",
    "aiosqlite",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "uvloop",
)


class Forked:
    """A service that the nursery made; has what is used of `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline_s = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline_s is not None and time.monotonic() > deadline_s:
                raise subprocess.TimeoutExpired(f"service {self.pid}", timeout or 0)
            time.sleep(_POLL_S)
        return code

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class Nursery:
    """Start it once, fork from it often, close it."""

    def __init__(self, root: Path) -> None:
        _adopt_orphans()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root / "src"), "OPENBLAS_NUM_THREADS": "1"},
            text=True,
        )
        assert self._read() == "ready"

    def fork(self, launch: bytes, output: Path) -> Forked:
        """A new service, which writes to `output`."""
        assert self._process.stdin is not None
        order = json.dumps({"launch": launch.decode(), "output": str(output)})
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        return Forked(int(self._read()))

    def _read(self) -> str:
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        assert answer, f"the nursery ended with {self._process.wait()}"
        return answer.strip()

    def close(self) -> None:
        """Ends the nursery; services that it made live on."""
        self._process.communicate()


def _adopt_orphans() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _fork_twice(order: dict[str, str]) -> int:
    """Returns the service's pid; in the service itself it does not return."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        service = os.fork()
        if service == 0:
            os.close(read_end)
            os.close(write_end)
            _become_service(order)
        os.write(write_end, str(service).encode())
        os._exit(0)
    os.close(write_end)
    os.waitpid(child, 0)
    pid = int(os.read(read_end, 32))
    os.close(read_end)
    return pid


def _become_service(order: dict[str, str]) -> None:
    # Here, because this module is imported by the tests, which need no service of their own.
    from tests.crash.launcher import launch

    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(output)
    code = 1
    try:
        code = launch(order["launch"].encode())
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    for name in (*_IMPORTED, "tests.crash.launcher"):
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name)
    tasks = Path("/proc/self/task").iterdir()
    others = [
        (task / "comm").read_text().strip() for task in tasks if int(task.name) != os.getpid()
    ]
    # The memory allocator's own thread is made anew after a fork, by itself.
    assert set(others) <= {"jemalloc_bg_thd"}, f"a fork would lose these threads: {others}"
    print("ready", flush=True)
    for line in sys.stdin:
        print(_fork_twice(json.loads(line)), flush=True)


if __name__ == "__main__":
    main()
