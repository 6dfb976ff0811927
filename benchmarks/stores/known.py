"""The stores that are measured: how the service is started on each, and what each promises."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.peers.peer import Missing
from benchmarks.peers.postgres import PostgresServer
from benchmarks.subject import FLOWTALLY, ROOT, ROWSTORE, Subject

_CLI = ("-m", "flowtally.cli.main")
_SNAPSHOT_INTERVAL_S = 2


@dataclass(frozen=True)
class Store:
    """One of them."""

    subject: Subject
    keeps: bool = True
    """Whether what was taken is there after a clean stop."""
    flags: tuple[str, ...] = ()
    """What the program must know to be started so."""
    on_postgres: bool = False

    def check(self) -> None:
        """Raises `Missing` unless this program knows the store and all that it needs is here."""
        if self.on_postgres:
            PostgresServer().check()
        if self.flags:
            command = [sys.executable, *_CLI, "check", *self.flags]
            asked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            if asked.returncode != 0:
                raise Missing(" ".join((asked.stderr or asked.stdout).split())[-200:])

    @contextmanager
    def placed(self, folder: Path) -> Iterator[Subject]:
        """The subject on a folder, with its PostgreSQL, if it needs one, running in it."""
        if not self.on_postgres:
            yield self.subject
            return
        server = PostgresServer()
        # In the folder that is measured.
        pid = server.start(folder / "data" / "server")
        try:
            url = f"postgresql+psycopg://flowtally@127.0.0.1:{server.port}/postgres"
            command = tuple(part.replace("{sql_url}", url) for part in self.subject.command)
            yield replace(self.subject, command=command, pids=(pid,))
        finally:
            server.stop()


def store_of(name: str, about: str, *flags: str, settle: tuple[str, ...] = ()) -> Store:
    """A store that the service is started on with these flags."""
    subject = Subject(name, about, (*FLOWTALLY.command, *flags), settle=settle)
    # The settings are checked with a URL of the same kind; the folder and the port come later.
    known = tuple(
        flag.replace("{sql_url}", "postgresql+psycopg://localhost/flowtally").replace(
            "{data}", "data"
        )
        for flag in flags
    )
    return Store(subject, flags=known, on_postgres="{sql_url}" in flags)


STORES = {
    store.subject.name: store
    for store in (
        store_of("duckdb", "a journal with DuckDB behind it", "--store", "duckdb"),
        store_of(
            "hourly",
            "events and results apart; summed by `flowtally aggregate` before each read here",
            "--store",
            "hourly",
            settle=(*_CLI, "aggregate", "--url", "http://127.0.0.1:{port}"),
        ),
        store_of(
            "sql-sqlite",
            "raw events in SQLite, summed when read",
            "--store",
            "sql",
            "--sql-url",
            "sqlite+aiosqlite:///{data}/flows.sqlite",
        ),
        store_of(
            "sql-postgres",
            "raw events in PostgreSQL 15, summed when read; its memory and disk are in the figures",
            "--store",
            "sql",
            "--sql-url",
            "{sql_url}",
        ),
        replace(store_of("memory", "a map in memory", "--store", "memory"), keeps=False),
        store_of(
            "memory-snapshots",
            f"the same, with a snapshot every {_SNAPSHOT_INTERVAL_S} s",
            "--store",
            "memory",
            "--snapshot-interval-s",
            str(_SNAPSHOT_INTERVAL_S),
        ),
        Store(ROWSTORE),
    )
}
