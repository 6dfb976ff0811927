"""A PostgreSQL of the tests' own: made in a temporary folder, reached by a socket in it, synced.

Where PostgreSQL is not installed the tests that need it are skipped with that reason, and fail
instead where REQUIRE_POSTGRES is set, as CI does.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

_BIN = Path("/usr/lib/postgresql/15/bin")
_STARTED_S_MAX = 60.0
_STOPPED_S_MAX = 60.0
_POLL_S = 0.02
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class Postgres:
    """Construct, `start`, use, `close`. It may be killed and started again in between."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="flowtally-postgres-"))
        self._data = self.folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._as_whom = _unprivileged(self.folder)

    def start(self) -> None:
        """Starts the server, and waits until it answers."""
        if not self._data.exists():
            command = [_program("initdb"), "-D", str(self._data), "-A", "trust", "-U", "flowtally"]
            self._run([*command, "--encoding=UTF8", "--locale=C"])
        command = [_program("postgres"), "-D", str(self._data), "-c", "listen_addresses="]
        command += ["-c", f"unix_socket_directories={self.folder}", "-c", "shared_buffers=32MB"]
        with (self.folder / "output.log").open("ab") as output:
            self._process = subprocess.Popen(  # type: ignore[call-overload]
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                preexec_fn=_end_with_parent,
                **self._as_whom,
            )
        deadline_s = time.monotonic() + _STARTED_S_MAX
        while not self._answers():
            assert self._process is not None
            assert self._process.poll() is None and time.monotonic() < deadline_s, self.output()
            time.sleep(_POLL_S)

    def _run(self, command: list[str]) -> None:
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            cwd=self.folder,
            **self._as_whom,  # type: ignore[call-overload]
        )

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def connect(self) -> psycopg.Connection:
        """A connection that commits each statement."""
        return psycopg.connect(
            host=str(self.folder), user="flowtally", dbname="postgres", autocommit=True
        )

    def output(self) -> str:
        """The end of what the server wrote."""
        return (self.folder / "output.log").read_bytes()[-4000:].decode(errors="replace")

    def url(self, folder: Path) -> str:
        """Tables of this folder's own: a schema, made where it is not there."""
        schema = "s" + hashlib.sha256(str(folder).encode()).hexdigest()[:20]
        with self.connect() as connection:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}".encode())
        options = quote(f"-csearch_path={schema}", safe="")
        host = quote(str(self.folder), safe="")
        return f"postgresql+psycopg://flowtally@/postgres?host={host}&options={options}"

    def stop(self, how: int = signal.SIGINT) -> None:
        """Ends it: SIGINT lets it finish at once, SIGQUIT is a crash that it recovers from."""
        if self._process is not None:
            self.thaw()
            self._process.send_signal(how)
            self._process.wait(_STOPPED_S_MAX)
            self._process = None

    def freeze(self, how: int = signal.SIGSTOP) -> None:
        """Lets it answer nothing any more, and hang up on nobody."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for one in (pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(one, how)

    def thaw(self) -> None:
        """Lets it go on."""
        self.freeze(signal.SIGCONT)

    def close(self) -> None:
        """Ends it and removes the folder."""
        self.stop()
        shutil.rmtree(self.folder)


def started() -> Postgres:
    """A running server; skips the test, or fails it, where there can be none."""
    missing = [name for name in ("initdb", "postgres") if _found(name) is None]
    if missing:
        reason = f"PostgreSQL is not installed: no {' and no '.join(missing)}"
        if os.environ.get("REQUIRE_POSTGRES"):
            pytest.fail(reason)
        pytest.skip(reason)
    server = Postgres()
    try:
        server.start()
    except BaseException:
        server.close()
        raise
    return server


def _end_with_parent() -> None:
    """Has the server stop when the tests are killed: nobody else would."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)


def _found(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=str(_BIN))


def _program(name: str) -> str:
    found = _found(name)
    assert found is not None
    return found


def _unprivileged(folder: Path) -> dict[str, object]:
    """How to start a program that refuses to be root: as `nobody`, who is given the folder."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
