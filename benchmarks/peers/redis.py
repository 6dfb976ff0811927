"""Redis with its log synced at each write: a hash for each hour, added to in place."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.peer import (
    Connection,
    Server,
    Settled,
    free_port,
    is_listening,
    package,
    program,
    sums_of,
)
from benchmarks.traffic import ExpectedSums, Key


class Redis:
    """HINCRBY in one MULTI for each batch."""

    name = "redis"
    about = "Redis 7: a hash an hour, HINCRBY of a batch's sums in one MULTI (redis-py, hiredis)"
    durability = "synced (appendonly yes, appendfsync always)"
    lighter = "no HTTP, no batch_ids"
    in_process = False

    def __init__(self) -> None:
        self._server = Server("Redis")

    def check(self) -> str:
        package("redis")
        return subprocess.run(
            [program("redis-server"), "--version"], capture_output=True, text=True, check=True
        ).stdout.strip()

    def start(self, folder: Path) -> Sequence[int]:
        data = folder / "redis"
        data.mkdir(parents=True, exist_ok=True)
        port = free_port()
        (folder / "port").write_text(str(port))
        command = [program("redis-server"), "--port", str(port), "--bind", "127.0.0.1"]
        command += ["--dir", str(data), "--appendonly", "yes", "--appendfsync", "always"]
        command += ["--save", ""]
        return (self._server.start(command, folder / "redis.log", lambda: is_listening(port)),)

    def stop(self) -> None:
        self._server.stop(signal.SIGTERM)

    def connector(self, folder: Path) -> Callable[[], Connection]:
        port = int((folder / "port").read_text())
        client = package("redis")
        return lambda: _RedisConnection(client.Redis(port=port))


class _RedisConnection(Settled):
    def __init__(self, client: Any) -> None:
        self._client = client

    def post(self, body: bytes) -> None:
        batch = self._client.pipeline(transaction=True)
        for (source, target, vpc, hour), (received, sent) in sums_of(body).items():
            # Names hold no control characters, so a NUL between them cannot be part of one.
            flow = f"{source}\0{target}\0{vpc}"
            batch.hincrby(f"rx:{hour}", flow, received)
            batch.hincrby(f"tx:{hour}", flow, sent)
        batch.execute()

    def read(self, hour: int) -> ExpectedSums:
        sent = self._client.hgetall(f"tx:{hour}")
        found: ExpectedSums = {}
        for flow, received in self._client.hgetall(f"rx:{hour}").items():
            source, target, vpc = flow.decode().split("\0")
            key: Key = (source, target, vpc, hour)
            found[key] = (int(received), int(sent[flow]))
        return dict(sorted(found.items()))

    def close(self) -> None:
        self._client.close()
