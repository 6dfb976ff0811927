"""The composition root: the only place that names a concrete store and wires the parts together.

Nothing is opened by constructing a `Service`; `start` acts, in the order in which parts need each
other, and `close` undoes it in reverse. Two services can live in one process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flowtally import __version__
from flowtally.access.credentials import Credentials
from flowtally.api.app import App
from flowtally.api.auth import Gate
from flowtally.api.rate_limit import RateLimit
from flowtally.api.services import Services
from flowtally.clock import Clock, SystemClock
from flowtally.config import SQL_URL, Settings
from flowtally.errors import NotSupported
from flowtally.ingest.admission import Admission
from flowtally.ingest.committer import Committer
from flowtally.limits import BodyLimits
from flowtally.model import MILLISECONDS_PER_HOUR
from flowtally.observe.ledger_check import LedgerCheck
from flowtally.observe.metrics import Metrics
from flowtally.observe.watch import Watch
from flowtally.ports import FlowStore
from flowtally.steps import OnStep, ignore
from flowtally.wire import kernel
from flowtally.wire.backup_manifest import Manifest


class Service:
    """One node: a store, the committer before it, and the HTTP application in front."""

    def __init__(
        self, settings: Settings, clock: Clock | None = None, on_step: OnStep = ignore
    ) -> None:
        clock = clock or SystemClock()
        kernel.use(settings.kernel)
        self.settings = settings
        self.store = make_store(settings, clock, on_step)
        self.metrics = Metrics()
        self.committer = Committer(self.store, clock, observe_commit=self.metrics.observe_commit)
        self.watch = Watch(clock, self.metrics.observe_lag)
        self.ledger_check = LedgerCheck(self.store, clock)
        self.stopping = False
        self.credentials = Credentials(
            settings.tokens, settings.tls_certificate, settings.tls_key, clock
        )
        self.app = App(
            Services(
                sink=self.store,
                source=self.store,
                committer=self.committer,
                admission=Admission(settings.in_flight_bytes_max),
                clock=clock,
                bounds=BodyLimits(),
                deadline_s=settings.request_deadline_s,
                metrics=self.metrics,
                stopping=lambda: self.stopping,
                store_name=settings.store,
                gate=Gate(self.credentials.tokens, _rate_limit(settings, clock)),
                health_sources=(
                    self.ledger_check.health,
                    self.watch.health,
                    self.credentials.health,
                ),
            )
        )

    async def start(self) -> None:
        """Reads tokens and certificate, and opens the store. Raises `SettingsError` or
        `DataFolderError`, and leaves nothing open if it cannot."""
        try:
            await self.credentials.start()
            await self.store.start()
        except BaseException:
            await self.credentials.close()
            raise
        self.watch.start()
        self.ledger_check.start()

    def reload(self) -> None:
        """Reads tokens and certificate again, now and not within a second."""
        self.credentials.reload()

    def announce(self, url: str) -> None:
        """Tells whoever finds the data folder taken where this service can be reached."""
        self.store.announce(url)

    def drain(self) -> None:
        """Says that no new work is wanted: `/readyz` is false from now on."""
        self.stopping = True

    async def close(self) -> None:
        """Commits what waits, applies what is pending, and closes. May be called twice."""
        self.drain()
        await self.committer.close()
        self.app.close()
        await self.ledger_check.close()
        await self.watch.close()
        await self.store.close()
        await self.credentials.close()


def _rate_limit(settings: Settings, clock: Clock) -> RateLimit | None:
    requests_per_s = settings.rate_limit_requests_per_s
    if not requests_per_s:
        return None
    return RateLimit(requests_per_s, settings.rate_limit_burst_requests, clock)


def make_store(settings: Settings, clock: Clock, on_step: OnStep = ignore) -> FlowStore:
    """The store that the settings name. Each is imported only where it is used."""
    retention_ms = settings.retention_hours * MILLISECONDS_PER_HOUR
    batch_ids_keep_ms = settings.batch_ids_keep_hours * MILLISECONDS_PER_HOUR
    if settings.store == "memory":
        from flowtally.stores.memory import MemoryStore
        from flowtally.stores.memory_taker import Snapshots

        return MemoryStore(
            clock,
            retention_ms=retention_ms,
            batch_ids_keep_ms=batch_ids_keep_ms,
            flows_max=settings.memory_flows_max,
            snapshots=Snapshots(settings.data, settings.snapshot_interval_s)
            if settings.snapshot_interval_s
            else None,
            on_step=on_step,
        )
    if settings.store == "sql":
        from flowtally.stores.sql.store import SqlSettings, SqlStore

        return SqlStore(
            settings.sql_url,
            settings.data,
            clock,
            SqlSettings(retention_ms=retention_ms, batch_ids_keep_ms=batch_ids_keep_ms),
            on_step,
        )
    from flowtally.stores.journal_keeper import KeepingPeriods

    periods = KeepingPeriods(retention_ms, batch_ids_keep_ms)
    if settings.store == "hourly":
        from flowtally.stores.hourly.store import HourlySettings, HourlyStore

        return HourlyStore(
            settings.data,
            clock,
            HourlySettings(periods, settings.pending_bytes_max, settings.aggregate_interval_s),
            on_step,
        )
    from flowtally.stores.duckdb.store import DuckdbSettings, DuckdbStore

    return DuckdbStore(
        settings.data,
        clock,
        DuckdbSettings(periods, settings.pending_bytes_max),
        on_step,
    )


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify` found: the ledger as `/v1/ledger` writes it, and the faults of the files."""

    ledger_json: bytes
    faults: tuple[str, ...]


def verify_data(settings: Settings) -> Verification:
    """Verifies what no service has open: the database where the settings are of the sql store, or
    else whatever is in the data folder. Raises `DataFolderError`, `FolderInUse` where one runs."""
    from flowtally.stores.folder import owner_of
    from flowtally.stores.verifying import verify_store
    from flowtally.wire.answers import encode_ledger

    data = settings.data
    store = owner_of(data) or "duckdb"
    if settings.store == "sql" or settings.sql_url != SQL_URL:
        store = "sql"
    report = verify_store(store, data, SystemClock(), settings.sql_url)
    return Verification(encode_ledger(report.ledger), report.faults)


@contextmanager
def stopped_stream(settings: Settings) -> Iterator[Iterator[bytes]]:
    """The stream of a backup of what no service has open. Raises `DataFolderError`, `FolderInUse`
    where one runs, and `NotSupported` for a PostgreSQL."""
    from flowtally.api.backup import sources_of
    from flowtally.stores.stopped_backup import stopped_backup
    from flowtally.wire.backup_stream import backup_stream

    data = settings.data
    if settings.sql_url != SQL_URL:
        from flowtally.stores.sql.address import Address
        from flowtally.stores.sql.store import backend_of

        address = Address(settings.sql_url, data)
        if not address.is_sqlite:
            backend_of(address).backed_up(0)
        if address.path.name != "flows.sqlite":
            raise NotSupported(
                f"{address.path} is copied while the service runs: its file has a name of its own"
            )
        data = address.path.parent
    with stopped_backup(data, settings.store, SystemClock()) as backup:
        yield backup_stream(backup.point, sources_of(backup), __version__)


@dataclass(frozen=True, slots=True)
class Restored:
    """What a backup was found to be, and the account of the folder that was made of it."""

    manifest: Manifest
    ledger_json: bytes


def restore_data(source: Path, target: Path) -> Restored:
    """Makes a data folder of a backup. Raises `BackupError`; then there is none."""
    from flowtally.stores.restoring import restore
    from flowtally.wire.answers import encode_ledger

    found = restore(source, target, SystemClock())
    return Restored(found.manifest, encode_ledger(found.ledger))


def aggregate_data(data: Path) -> int:
    """Brings all that was acknowledged into the sums of a stopped data folder; returns how many
    batches that were. Raises `DataFolderError`, `FolderInUse` where a service runs."""
    from flowtally.stores.hourly.files import aggregate_folder

    return aggregate_folder(data, SystemClock())
