"""The peers, by their names."""

from __future__ import annotations

from benchmarks.peers.chdb import ChDB
from benchmarks.peers.embedded import DuckDB, SQLite
from benchmarks.peers.peer import Peer
from benchmarks.peers.postgres import PostgresCopy, PostgresUpsert
from benchmarks.peers.redis import Redis
from benchmarks.peers.victoriametrics import VictoriaMetrics

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        DuckDB(),
        SQLite(),
        PostgresUpsert(),
        PostgresCopy(),
        ChDB(),
        Redis(),
        VictoriaMetrics(),
    )
}
