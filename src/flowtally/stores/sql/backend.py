"""What differs between the databases, as one contract; `sqlite.py` and `postgres.py` keep it.

A backend owns the connections. It knows how rows get in fast, who else may write, and what its
errors mean.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from sqlalchemy import ColumnElement, Connection, Table
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from flowtally.model import Backup
from flowtally.stores.sql.address import Address

Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """What an error means for whoever wants to write."""

    detail: str
    is_final: bool
    """Nothing is written any more until the service is started again."""


class Backend(ABC):
    """See the module. Construct, `open`, use, `close`."""

    name: str
    others_write: bool
    """Whether other processes write to the same tables: then nothing is true for longer than a
    statement takes, unless the lock is held."""
    locks_at_begin: bool
    """Whether a transaction of `writing` has the lock from its beginning."""
    place: ColumnElement[Any]
    """Where a row stands: the column that every table has, and that finds it at once."""
    errors: tuple[type[Exception], ...] = (SQLAlchemyError, OSError)
    """What a transaction may end with that is the database's fault and nobody else's."""
    writing: AsyncEngine
    """Its transactions change something."""
    reading: AsyncEngine
    """Its transactions are snapshots."""
    glancing: AsyncEngine
    """For one statement that reads, and takes a moment. Reads that take long do not have its
    connections, so what must go on beside them does."""

    def __init__(self, address: Address) -> None:
        self.address = address

    @abstractmethod
    async def open(self, create: bool = True) -> None:
        """Connects, and takes what must be taken. Raises `DataFolderError`."""

    @abstractmethod
    async def close(self) -> None:
        """Lets go of all connections. May be called twice."""

    def announce(self, url: str) -> None:
        """Notes where the service is reached, for whoever finds the database taken."""
        del url

    @abstractmethod
    def lock_migrations(self, connection: Connection) -> None:
        """Waits, in a transaction, until no other start is upgrading the tables."""

    @abstractmethod
    async def insert(
        self, connection: AsyncConnection, table: Table, rows: Sequence[Row], on_conflict: str
    ) -> int:
        """Inserts whole rows, in the order of the table's columns; returns how many were written.
        `on_conflict` is what follows these words in SQL."""

    @abstractmethod
    def digits(self, value: int) -> object:
        """A number of up to 38 digits, as `insert` takes it."""

    @abstractmethod
    async def insert_tallies(self, connection: AsyncConnection, rows: pa.Table) -> None:
        """Inserts the rows of `rows.py`, fast."""

    @abstractmethod
    def failure_of(self, error: Exception) -> Failure:
        """What a failed transaction means."""

    @abstractmethod
    async def fold_log(self) -> None:
        """Brings a long log into the database, while commits go on."""

    @abstractmethod
    async def give_space_back(self) -> None:
        """Gives back what deleted rows took, a piece at a time, while no commit is under way."""

    @abstractmethod
    def cut(self) -> None:
        """Breaks the connections of a server that answers nothing any more: whoever waits for it
        gets an error, and is not left waiting."""

    def room(self) -> int | None:
        """Bytes that are free on the disk, or None where that is the database's concern."""
        return None

    def facts(self) -> dict[str, int | float | str | bool | None]:
        """What an operator may want to know, without I/O that could wait."""
        return {}

    @abstractmethod
    def backed_up(self, now_ms: int) -> AbstractAsyncContextManager[Backup]:
        """See `FlowSource.backed_up`."""

    async def check(self) -> list[str]:
        """The database's own full check: one line for each fault."""
        return []
