"""The first tables.

Frozen: what changes later is another module. In PostgreSQL the table of events is vacuumed after a
fiftieth of it has expired, so that what comes in takes the room of what went; and the few rows that
every commit changes have room beside them for their next versions.
"""

from __future__ import annotations

import uuid
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_APPLICATION_ID = 0x464C5351
""""FLSQ" in the header of a SQLite file: no other program's database is taken for ours."""
_POSTGRES = (
    "ALTER TABLE flowtally_tallies SET (autovacuum_vacuum_scale_factor = 0.02,"
    " autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_analyze_scale_factor = 0.05)",
    "ALTER TABLE flowtally_batch_ids SET (autovacuum_vacuum_scale_factor = 0.05)",
    *(
        f"ALTER TABLE flowtally_{name} SET (fillfactor = 50,"
        " autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)"
        for name in ("state", "hours", "ledger")
    ),
)


def upgrade() -> None:
    """Makes them, and gives the database its name."""
    is_postgres = op.get_bind().dialect.name == "postgresql"
    name = sa.Text(collation="C") if is_postgres else sa.Text()
    digits = sa.Numeric(38, 0) if is_postgres else sa.String(38)
    _make_state()
    _make_events(name)
    _make_accounts(digits)
    for statement in _POSTGRES if is_postgres else (f"PRAGMA application_id = {_APPLICATION_ID}",):
        op.execute(statement)


def _make_state() -> None:
    state = op.create_table(
        "flowtally_state",
        _integer("only", primary_key=True),
        sa.Column("instance", sa.Text, nullable=False),
        _integer("sequence"),
        _integer("emptied_revision"),
        _integer("emptied_ms", nullable=True),
        _integer("expire_before"),
    )
    first: dict[str, object] = dict.fromkeys(("sequence", "emptied_revision", "expire_before"), 0)
    op.bulk_insert(state, [{"only": 1, "instance": uuid.uuid4().hex, "emptied_ms": None, **first}])


def _make_events(name: sa.types.TypeEngine[str]) -> None:
    op.create_table(
        "flowtally_batch_ids",
        sa.Column("batch_id", name, primary_key=True, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        *map(_integer, ("records", "flows", "arrived_ms")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_flowtally_batch_ids_arrived_ms", "flowtally_batch_ids", ["arrived_ms"])
    op.create_table(
        "flowtally_tallies",
        sa.Column("arrival_hour", sa.Integer, nullable=False),
        sa.Column("hour", sa.Integer, nullable=False),
        *(sa.Column(field, name, nullable=False) for field in ("src_app", "dest_app", "vpc_id")),
        *map(_integer, ("bytes_rx", "bytes_tx", "records")),
    )
    op.create_index("flowtally_tallies_place", "flowtally_tallies", ["arrival_hour", "hour"])


def _make_accounts(digits: sa.types.TypeEngine[Any]) -> None:
    op.create_table(
        "flowtally_hours",
        _integer("hour", primary_key=True),
        *map(_integer, ("revision", "changed_ms")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "flowtally_arrivals",
        _integer("hour", primary_key=True),
        _integer("arrival_hour", primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "flowtally_ledger",
        _integer("arrival_hour", primary_key=True),
        *map(_integer, ("batches", "records")),
        *(sa.Column(field, digits, nullable=False) for field in ("bytes_rx", "bytes_tx")),
        *map(_integer, ("batches_repeated", "batches_refused", "batches_summed")),
        *map(_integer, ("batches_expired", "records_expired")),
        *(
            sa.Column(field, digits, nullable=False)
            for field in ("bytes_rx_expired", "bytes_tx_expired")
        ),
        sqlite_with_rowid=False,
    )


def _integer(name: str, primary_key: bool = False, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(
        name, sa.BigInteger, primary_key=primary_key, nullable=nullable, autoincrement=False
    )
