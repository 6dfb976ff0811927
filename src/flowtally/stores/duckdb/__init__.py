"""The default store: a journal that acknowledges, and DuckDB behind it that answers reads.

Follow a batch: `store.py` (write) -> `ingest/journal.py` (acknowledged) -> `applier.py` (the one
thread that writes DuckDB) -> `apply.py`; later `compaction.py` and `retention.py`. Follow a read:
`store.py` -> `reads.py`. The files are drawn in `docs/internals/data-folder.md`.
"""
