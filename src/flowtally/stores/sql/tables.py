"""The tables, typed: what stands in the database, the same in SQLite and PostgreSQL.

Only their shape; they are made and changed by the migrations beside, which a test holds against
this. Sums of bytes end at 2^63 in neither: see `rows.py` for the rows, `Digits` for the ledger.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Named,
    Numeric,
    String,
    Table,
    Text,
    TypedColumns,
    TypeDecorator,
)
from sqlalchemy.types import TypeEngine

PREFIX = "flowtally_"
"""Of every table: a database may be shared with others."""
VERSION_TABLE = f"{PREFIX}version"

metadata = MetaData()


class Digits(TypeDecorator[int]):
    """A whole number of up to 38 digits: NUMERIC; text in SQLite, where that would be a float."""

    impl = String
    cache_ok = True

    @property
    def python_type(self) -> type[int]:
        return int

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(Numeric(38, 0))
        return dialect.type_descriptor(String(38))

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        return Decimal(value) if dialect.name == "postgresql" else str(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        return None if value is None else int(value)


def name_type() -> TypeEngine[str]:
    """Text that is compared and sorted byte by byte: SQLite does so by itself."""
    return Text().with_variant(Text(collation="C"), "postgresql")


class StateColumns(TypedColumns):
    """One row, whose lock is what orders all commits."""

    only: Named[int] = Column(BigInteger, primary_key=True, autoincrement=False)
    instance: Named[str] = Column(Text)
    sequence: Named[int] = Column(BigInteger)
    """The newest revision that was given out; grows with every change of a sum."""
    emptied_revision: Named[int] = Column(BigInteger)
    """The revision of every hour that holds nothing: that of the last expiry."""
    emptied_ms: Named[int | None] = Column(BigInteger)
    expire_before: Named[int] = Column(BigInteger)
    """Rows of earlier arrival hours are expired and wait to be deleted; 0: there are none."""


class BatchIdColumns(TypedColumns):
    """The idempotency index."""

    batch_id: Named[str] = Column(name_type(), primary_key=True)
    fingerprint: Named[bytes] = Column(LargeBinary)
    records: Named[int] = Column(BigInteger)
    flows: Named[int] = Column(BigInteger)
    arrived_ms: Named[int] = Column(BigInteger, index=True)


class TallyColumns(TypedColumns):
    """The events: the rows of the tallies, as they came in. One flow may be in many."""

    arrival_hour: Named[int] = Column(Integer)
    hour: Named[int] = Column(Integer)
    src_app: Named[str] = Column(name_type())
    dest_app: Named[str] = Column(name_type())
    vpc_id: Named[str] = Column(name_type())
    bytes_rx: Named[int] = Column(BigInteger)
    bytes_tx: Named[int] = Column(BigInteger)
    records: Named[int] = Column(BigInteger)


class HourColumns(TypedColumns):
    """The revision of each hour that holds something."""

    hour: Named[int] = Column(BigInteger, primary_key=True, autoincrement=False)
    revision: Named[int] = Column(BigInteger)
    changed_ms: Named[int] = Column(BigInteger)


class ArrivalColumns(TypedColumns):
    """In which arrival hours something came for an hour. A row of `tallies` that has no line here
    is in no sum: it expired, and waits to be deleted."""

    hour: Named[int] = Column(BigInteger, primary_key=True, autoincrement=False)
    arrival_hour: Named[int] = Column(BigInteger, primary_key=True, autoincrement=False)


class LedgerColumns(TypedColumns):
    """What was accepted in each arrival hour, and what of it expired and is deleted."""

    arrival_hour: Named[int] = Column(BigInteger, primary_key=True, autoincrement=False)
    batches: Named[int] = Column(BigInteger)
    records: Named[int] = Column(BigInteger)
    bytes_rx: Named[int] = Column(Digits)
    bytes_tx: Named[int] = Column(Digits)
    batches_repeated: Named[int] = Column(BigInteger)
    batches_refused: Named[int] = Column(BigInteger)
    batches_summed: Named[int] = Column(BigInteger)
    batches_expired: Named[int] = Column(BigInteger)
    records_expired: Named[int] = Column(BigInteger)
    bytes_rx_expired: Named[int] = Column(Digits)
    bytes_tx_expired: Named[int] = Column(Digits)


state = Table(f"{PREFIX}state", metadata, StateColumns)
batch_ids = Table(f"{PREFIX}batch_ids", metadata, BatchIdColumns, sqlite_with_rowid=False)
tallies = Table(f"{PREFIX}tallies", metadata, TallyColumns)
hours = Table(f"{PREFIX}hours", metadata, HourColumns, sqlite_with_rowid=False)
arrivals = Table(f"{PREFIX}arrivals", metadata, ArrivalColumns, sqlite_with_rowid=False)
ledger = Table(f"{PREFIX}ledger", metadata, LedgerColumns, sqlite_with_rowid=False)

Index(f"{PREFIX}tallies_place", tallies.c.arrival_hour, tallies.c.hour)
