"""The tables that the migrations make are the ones that the code knows, on both databases; what is
not ours, or of a newer release, is refused and left as it is."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from flowtally.errors import DamagedData, DataFolderError, FolderInUse, SettingsError
from flowtally.stores.sql.address import Address
from flowtally.stores.sql.store import backend_of, open_tables
from flowtally.stores.sql.tables import VERSION_TABLE, metadata
from tests.postgres import Postgres

SQLITE = "sqlite+aiosqlite:///{data}/flows.sqlite"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return SQLITE
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.url(tmp_path)


async def _differences(url: str, data: Path) -> list[Any]:
    backend = backend_of(Address(url, data))
    await open_tables(backend, create=True)

    def compare(connection: Connection) -> list[Any]:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        found: list[Any] = compare_metadata(context, metadata)
        return found

    try:
        async with backend.writing.begin() as connection:
            return await connection.run_sync(compare)
    finally:
        await backend.close()


def test_they_are_those_that_the_code_knows(url: str, tmp_path: Path) -> None:
    assert asyncio.run(_differences(url, tmp_path)) == []
    # And once more, where they are there already.
    assert asyncio.run(_differences(url, tmp_path)) == []


def test_a_newer_release_is_not_written_over(url: str, tmp_path: Path) -> None:
    async def story() -> None:
        backend = backend_of(Address(url, tmp_path))
        instance = await open_tables(backend, create=True)
        change = f"UPDATE {VERSION_TABLE} SET version_num = '%s'"
        async with backend.writing.begin() as connection:
            await connection.execute(text(change % "9999"))
        await backend.close()
        with pytest.raises(DataFolderError, match="made by a newer release"):
            await open_tables(backend, create=True)
        if url == SQLITE:
            with closing(sqlite3.connect(tmp_path / "flows.sqlite", isolation_level=None)) as file:
                file.execute(change % "0001")
        else:
            await backend.open()
            async with backend.writing.begin() as connection:
                await connection.execute(text(change % "0001"))
            await backend.close()
        assert await open_tables(backend, create=True) == instance
        await backend.close()

    asyncio.run(story())


def test_nothing_is_made_by_who_only_looks(url: str, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(DataFolderError, match=r"is not there|no tables of flowtally"):
            asyncio.run(open_tables(backend_of(Address(url, tmp_path)), create=False))
    assert not (tmp_path / "flows.sqlite").exists()


def test_a_file_of_sqlite_has_one_process(tmp_path: Path) -> None:
    async def story() -> None:
        first = backend_of(Address(SQLITE, tmp_path))
        await open_tables(first, create=True)
        first.announce("http://here")
        with pytest.raises(FolderInUse) as caught:
            await open_tables(backend_of(Address(SQLITE, tmp_path)), create=True)
        assert caught.value.url == "http://here"
        await first.close()

    asyncio.run(story())


def test_what_is_not_ours_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "flows.sqlite"
    with closing(sqlite3.connect(path)) as foreign:
        foreign.execute("CREATE TABLE theirs (x)")
    with pytest.raises(DataFolderError, match="another program's"):
        asyncio.run(open_tables(backend_of(Address(SQLITE, tmp_path)), create=True))
    path.write_bytes(b"x" * 5000)
    with pytest.raises(DamagedData, match=r"flows\.sqlite is damaged"):
        asyncio.run(open_tables(backend_of(Address(SQLITE, tmp_path)), create=True))
    assert path.read_bytes() == b"x" * 5000
    path.unlink()
    (tmp_path / "journal.sqlite").touch()
    with pytest.raises(DataFolderError, match=r"data of the store duckdb or hourly"):
        asyncio.run(open_tables(backend_of(Address(SQLITE, tmp_path)), create=True))


@pytest.mark.parametrize(
    "url",
    [
        "sqlite+aiosqlite://",
        "sqlite+aiosqlite:///:memory:",
        "sqlite+aiosqlite:///file:x?mode=memory&uri=true",
        "mysql://u:s3cret@host/db",
        "u:s3cret@host",
        "postgresql+psycopg://u:s3cret@host:port/db",
        "postgresql+psycopg://u:an@s3cret@host/db",
        "postgresql+psycopg://realm/u:s3cret@host/db",
    ],
)
def test_a_url_that_cannot_be_used(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Address(url, Path("data"))
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_password_goes_to_nobody_but_the_driver() -> None:
    address = Address("postgresql+psycopg://u:s3cret@h/db?sslPassword=hidden&x=1", Path("data"))
    assert address.shown == "postgresql+psycopg://u:***@h/db?sslPassword=***&x=1"
    assert address.told(ValueError("no s3cret\nno hidden")) == "no *** no ***"
