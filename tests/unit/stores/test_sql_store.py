"""What the sql store promises beyond the contract: expiry in pieces, space given back, and several
stores on one PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from flowtally import limits
from flowtally.clock import ManualClock
from flowtally.errors import NotAccepting
from flowtally.model import Receipt
from flowtally.stores.sql import retention
from flowtally.stores.sql import store as sql_store
from flowtally.stores.sql.store import SqlSettings, SqlStore
from flowtally.stores.sql.tables import tallies
from tests.conformance.batches import HOUR_MS, batch_of, record, rows_of
from tests.postgres import Postgres

SQLITE = "sqlite+aiosqlite:///{data}/flows.sqlite"
KEEP = SqlSettings(retention_ms=24 * HOUR_MS, batch_ids_keep_ms=24 * HOUR_MS)

Open = Callable[[ManualClock], SqlStore]


@asynccontextmanager
async def opened_at_once(stores: Sequence[SqlStore]) -> AsyncIterator[Sequence[SqlStore]]:
    """Closed also where the test fails: connections left behind would fail those after it."""
    try:
        await asyncio.gather(*(store.start() for store in stores))
        yield stores
    finally:
        for store in stores:
            await store.close()


@asynccontextmanager
async def opened(store: SqlStore) -> AsyncIterator[SqlStore]:
    async with opened_at_once([store]):
        yield store


@pytest.fixture(params=["sqlite", "postgresql"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    url = SQLITE
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.url(tmp_path)
    return lambda clock: SqlStore(url, tmp_path, clock, KEEP)


@pytest.fixture(autouse=True)
def no_rounds_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store tidies when the test says so, and then alone: a round of its own, come late, would do
    pieces that the test counts."""
    monkeypatch.setattr(sql_store, "_TIDY_INTERVAL_S", 3600.0)


def test_an_expiry_is_seen_at_once_and_carried_out_in_pieces(
    make: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each piece the ledger balances, and what expired is in no sum."""
    monkeypatch.setattr(limits, "SQL_PIECE_ROWS", 3)

    async def story() -> None:
        clock = ManualClock()
        async with opened(make(clock)) as store:
            old = [record(f"a{number}", hour=hour) for number in range(5) for hour in (1, 2)]
            await store.write([batch_of(old, "old")])
            clock.advance_ms(20 * HOUR_MS)
            await store.write([batch_of([record("young")], "young")])
            revision = await store.revision(1)
            clock.advance_ms(6 * HOUR_MS)
            rounds = 0
            while await store.tidy():
                rounds += 1
                assert await rows_of(store, 1) == [record("young")]
                assert await rows_of(store, 2) == []
                assert [one.hour for one in await store.hours()] == [1, 9][: min(rounds, 2)]
                ledger = await store.ledger()
                assert ledger.balances, ledger
                assert (ledger.total().expired.batches, ledger.total().expired.records) == (1, 10)
                assert (await store.revision(1)).number == revision.number + 1
                # What comes meanwhile is counted, and not deleted with it.
                await store.write([batch_of([record("late", hour=9)])])
            assert rounds >= 4
            assert await rows_of(store, 9) == [record("late", hour=9, rx=rounds, tx=2 * rounds)]

    asyncio.run(story())


def test_a_clock_set_back_while_rows_are_deleted_loses_nothing(
    make: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes then would be of an arrival hour that is being deleted."""
    monkeypatch.setattr(limits, "SQL_PIECE_ROWS", 1)

    async def story() -> None:
        clock = ManualClock()
        async with opened(make(clock)) as store:
            await store.write([batch_of([record(f"a{number}") for number in range(3)], "old")])
            clock.advance_ms(26 * HOUR_MS)
            assert await store.tidy()
            clock.jump_ms(-26 * HOUR_MS)
            await store.write([batch_of([record("new")], "new")])
            while await store.tidy():
                pass
            assert await rows_of(store, 1) == [record("new")]
            ledger = await store.ledger()
            assert ledger.balances
            assert ledger.total().expired.records == 3

    asyncio.run(story())


def test_batch_ids_are_forgotten_in_pieces(make: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SQL_PIECE_ROWS", 2)

    async def story() -> None:
        clock = ManualClock()
        async with opened(make(clock)) as store:
            await store.write([batch_of([], f"key-{number}") for number in range(7)])
            clock.advance_ms(24 * HOUR_MS + 1)
            await store.write([batch_of([], "young")])
            rounds = 0
            while await store.tidy():
                rounds += 1
            assert rounds >= 4
            [old, young] = await store.write([batch_of([], "key-6"), batch_of([], "young")])
            assert old == Receipt("key-6", 0, 0)
            assert young == Receipt("young", 0, 0, repeated=True)

    asyncio.run(story())


def test_postgres_finds_what_is_to_be_deleted_by_the_index(
    postgres: Postgres, tmp_path: Path
) -> None:
    """Also where it takes every row for one of them: of the last piece it would look through the
    whole table, with the lock."""

    async def story() -> list[str]:
        clock = ManualClock()
        async with opened(SqlStore(postgres.url(tmp_path), tmp_path, clock, KEEP)) as store:
            hour = clock.arrival_hour()
            rows = (
                f"INSERT INTO {tallies.name} SELECT {hour}, 1, 'a', 'b', 'v', 1, 1, 1"
                " FROM generate_series(1, 50000)"
            )
            async with store.backend.writing.begin() as connection:
                await connection.exec_driver_sql(rows)
                await connection.exec_driver_sql(f"ANALYZE {tallies.name}")
                some = retention.some_rows(store.backend, hour + 1).compile(
                    connection.sync_connection, compile_kwargs={"literal_binds": True}
                )
                plan = (await connection.exec_driver_sql(f"EXPLAIN {some}")).scalars().all()
        return list(plan)

    plan = asyncio.run(story())
    assert any("tallies_place" in line for line in plan), plan


@pytest.mark.parametrize("engine", ["reading", "glancing"])
def test_what_a_read_sorts_in_sqlite_does_not_have_to_fit_into_memory(
    tmp_path: Path, engine: str
) -> None:
    """A ledger sorts all rows that there are."""

    async def story() -> None:
        async with (
            opened(SqlStore(SQLITE, tmp_path, ManualClock(), KEEP)) as store,
            getattr(store.backend, engine).connect() as connection,
        ):
            found = (await connection.exec_driver_sql("PRAGMA temp_store")).scalar_one()
        in_memory = 2
        assert found != in_memory

    asyncio.run(story())


def test_sqlite_gives_space_back(tmp_path: Path) -> None:
    async def story() -> None:
        clock = ManualClock()
        async with opened(SqlStore(SQLITE, tmp_path, clock, KEEP)) as store:
            for number in range(6):
                records = [record(f"{number}-{index}" + "x" * 200) for index in range(10_000)]
                await store.write([batch_of(records)])
        path = tmp_path / "flows.sqlite"
        grown_bytes = path.stat().st_size
        clock.advance_ms(26 * HOUR_MS)
        async with opened(SqlStore(SQLITE, tmp_path, clock, KEEP)) as store:
            await store.write([batch_of([record()])])
            while await store.tidy():
                pass
            for _ in range(3):
                await store.tidy()
        assert path.stat().st_size < grown_bytes / 2

    asyncio.run(story())


def test_each_of_several_stores_sees_what_the_others_do(postgres: Postgres, tmp_path: Path) -> None:
    """Revisions too: what one remembers of them is never believed."""

    async def story() -> None:
        clock = ManualClock()
        stores = [SqlStore(postgres.url(tmp_path), tmp_path, clock, KEEP) for _ in range(2)]
        async with opened_at_once(stores) as (one, two):
            assert one.instance() == two.instance()
            batch = batch_of([record()], "key")
            first = await one.write([batch])
            assert list(await two.write([batch])) == [Receipt("key", 1, 1, repeated=True)]
            assert list(first) == [Receipt("key", 1, 1)]
            seen = await two.revision(1)
            await one.write([batch_of([record()], "other")])
            assert (await two.revision(1)).number > seen.number
            assert await rows_of(two, 1) == [record(rx=2, tx=4)]
            clock.advance_ms(26 * HOUR_MS)
            await asyncio.gather(_tidied(one), _tidied(two))
            for store in stores:
                assert await rows_of(store, 1) == []
                assert (await store.ledger()).balances

    asyncio.run(story())


async def _tidied(store: SqlStore) -> None:
    while await store.tidy():
        pass


def test_many_at_once_lose_nothing(postgres: Postgres, tmp_path: Path) -> None:
    """Three stores write what overlaps; each batch of one key counts once."""

    async def story() -> None:
        clock = ManualClock()
        stores = [SqlStore(postgres.url(tmp_path), tmp_path, clock, KEEP) for _ in range(3)]

        async def write(store: SqlStore) -> int:
            counted = 0
            for number in range(30):
                [answer] = await store.write([batch_of([record(rx=number)], f"key-{number}")])
                assert isinstance(answer, Receipt)
                counted += not answer.repeated
            return counted

        async with opened_at_once(stores):
            counted = await asyncio.gather(*map(write, stores))
            assert sum(counted) == 30
            assert await rows_of(stores[0], 1) == [record(rx=sum(range(30)), tx=60)]
            total = (await stores[1].ledger()).total()
            assert (total.accepted.batches, total.batches_repeated) == (30, 60)

    asyncio.run(story())


def test_long_reads_are_in_no_commit_s_way(make: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are: what is looked at each second is looked at beside them."""
    monkeypatch.setattr(limits, "SQL_READ_WAIT_S", 0.05)

    async def story() -> None:
        clock = ManualClock()
        async with opened(make(clock)) as store:
            await store.write([batch_of([record()])])
            clock.advance_ms(26 * HOUR_MS)
            over = asyncio.Event()

            async def long_read(connection: AsyncConnection) -> None:
                await connection.exec_driver_sql("SELECT 1")
                await over.wait()

            reads = [asyncio.create_task(store._read(long_read)) for _ in range(limits.SQL_READERS)]
            while store.backend.reading.pool.checkedout() < limits.SQL_READERS:  # type: ignore[attr-defined]
                await asyncio.sleep(0)
            with pytest.raises(NotAccepting):
                await store.sums(1)
            while await store.tidy():
                pass
            assert store.refusing() is None
            assert (await store.revision(1)).number == 2
            await store.write([batch_of([record()])])
            over.set()
            await asyncio.gather(*reads)
            assert await rows_of(store, 1) == [record()]

    asyncio.run(story())


def test_no_old_revision_is_told_once_the_new_sums_can_be_read(tmp_path: Path) -> None:
    """A commit is visible before whoever made it goes on: a reader who saw the new sums meanwhile
    must not be told that nothing has changed since the old ones."""
    told: list[tuple[str, int]] = []

    def look(step: str) -> None:
        if step in ("commit.synced", "expire.journalled"):
            known = store._revisions.get(1)
            told.append((step, 0 if known is None else known.number))

    clock = ManualClock()
    store = SqlStore(SQLITE, tmp_path, clock, KEEP, look)

    async def story() -> None:
        async with opened(store):
            for _ in range(2):
                await store.write([batch_of([record()])])
                assert (await store.revision(1)).number > 0
            clock.advance_ms(26 * HOUR_MS)
            await store.tidy()

    asyncio.run(story())
    assert told == [("commit.synced", 0), ("commit.synced", 0), ("expire.journalled", 0)]


def test_whoever_goes_away_leaves_the_read_to_end(make: Open) -> None:
    """No connection is cut off, and none is lost to the pool."""

    async def story() -> None:
        async with opened(make(ManualClock())) as store:
            await store.write([batch_of([record()], "key")])
            for _ in range(3 * limits.SQL_READERS):
                reading = asyncio.create_task(store.sums(1))
                await asyncio.sleep(0)
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
            assert await rows_of(store, 1) == [record()]
        with pytest.raises(NotAccepting):
            await store.revision(1)

    asyncio.run(story())
