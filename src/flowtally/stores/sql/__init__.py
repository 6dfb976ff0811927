"""Sums in a SQL database, SQLite or PostgreSQL: events in, aggregated when they are read.

Follow a batch: `store.py` (write) -> `commit.py` (one transaction) -> `rows.py` -> the database;
later `retention.py`. Follow a read: `store.py` -> `reads.py`. What differs between the two
databases is behind `backend.py`: `sqlite.py` and `postgres.py`. The tables are in `tables.py`, and
drawn in `docs/internals/data-folder.md`.
"""
