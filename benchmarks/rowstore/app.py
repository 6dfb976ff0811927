"""The service everyone writes first: FastAPI, pydantic, SQLAlchemy's asyncio and SQLite.

One row per record, summed on read. It is given what a second look would give it: WAL, a sync with
each commit (so that an acknowledgement means the same), an index on the hour, a bulk insert instead
of objects, and one writer at a time instead of busy waiting. It is spared what it does not know:
repeated batches, bounds, a ledger. The database's path comes from the environment, ROWSTORE_DATA.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import BigInteger, Index, String, event, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Name = Annotated[str, Field(min_length=1, max_length=256)]
Bytes = Annotated[int, Field(ge=0, le=2**53 - 1, strict=True)]


class Record(BaseModel):
    """One object of a posted array."""

    src_app: Name
    dest_app: Name
    vpc_id: Name
    hour: Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)]
    bytes_rx: Bytes
    bytes_tx: Bytes


class Sum(BaseModel):
    """One row of an answer."""

    model_config = ConfigDict(from_attributes=True)

    src_app: str
    dest_app: str
    vpc_id: str
    hour: int
    bytes_rx: int
    bytes_tx: int


class Taken(BaseModel):
    """The answer to a batch."""

    records: int


class Base(DeclarativeBase):
    """The tables."""


class Row(Base):
    """One record, as it came."""

    __tablename__ = "records"
    __table_args__ = (Index("records_by_hour", "hour"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    src_app: Mapped[str] = mapped_column(String(256))
    dest_app: Mapped[str] = mapped_column(String(256))
    vpc_id: Mapped[str] = mapped_column(String(256))
    hour: Mapped[int] = mapped_column(BigInteger)
    bytes_rx: Mapped[int] = mapped_column(BigInteger)
    bytes_tx: Mapped[int] = mapped_column(BigInteger)


async def session(request: Request) -> AsyncIterator[AsyncSession]:
    """A session for one request."""
    async with request.app.state.sessions() as opened:
        yield opened


Session = Annotated[AsyncSession, Depends(session)]


def create_app(folder: Path) -> FastAPI:
    """The application on a folder."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{folder / 'records.sqlite'}")
    one_writer = asyncio.Lock()

    @event.listens_for(engine.sync_engine, "connect")
    def set_up(connection: Any, _: object) -> None:
        for setting in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {setting}")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        app.state.sessions = async_sessionmaker(engine)
        yield
        await engine.dispose()

    app = FastAPI(title="One row per record", lifespan=lifespan)

    @app.post("/v1/flows")
    async def post_flows(records: list[Record], database: Session) -> Taken:
        rows = [record.model_dump() for record in records]
        async with one_writer:
            await database.execute(insert(Row), rows)
            await database.commit()
        return Taken(records=len(records))

    @app.get("/v1/flows")
    async def get_flows(hour: int, database: Session) -> list[Sum]:
        names = (Row.src_app, Row.dest_app, Row.vpc_id)
        found = await database.execute(
            select(
                *names,
                Row.hour,
                func.sum(Row.bytes_rx).label("bytes_rx"),
                func.sum(Row.bytes_tx).label("bytes_tx"),
            )
            .where(Row.hour == hour)
            .group_by(*names)
            .order_by(*names)
        )
        return [Sum.model_validate(row) for row in found]

    return app


def of_environment() -> FastAPI:
    """For `uvicorn --factory`."""
    return create_app(Path(os.environ["ROWSTORE_DATA"]))
