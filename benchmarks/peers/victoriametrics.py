"""VictoriaMetrics: each record posted as a line of Influx's protocol, stream aggregation sums them.

It sums by the four labels for an interval in memory, and then stores one sample a flow; a read adds
the samples up. Its numbers are floats: exact, as all sums here are, up to 2^53.
"""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlencode

from benchmarks.peers.peer import Connection, Server, free_port, is_listening, program, rows_of
from benchmarks.subject import ROOT, SubjectFailed
from benchmarks.traffic import ExpectedSums, Key

BUILT = ROOT / ".venv" / "bin" / "victoria-metrics"
_INTERVAL_S = 5
_STALE_S = 60
"""What nobody sent for so long is forgotten, also where it was not stored yet: at the default, two
intervals, sums were lost whenever storing many new flows took longer than one."""
_SETTLED_S_MAX = 60.0
_AGGREGATION = f"""
- interval: {_INTERVAL_S}s
  outputs: [sum_samples]
  staleness_interval: {_STALE_S}s
  flush_on_shutdown: true
"""
_STORED = "vm_streamaggr_flush_duration_seconds_count"
_OUTPUT = f"{_INTERVAL_S}s_sum_samples"
_HELD_FOR_S = 3 * 24 * 3600
"""The span that a read adds up: longer than any run."""


class VictoriaMetrics:
    """A metric each for received and sent bytes, a series a flow."""

    name = "victoriametrics"
    about = (
        "VictoriaMetrics: Influx lines over HTTP, stream aggregation (sum_samples, 5 s) by the four"
        " labels, sum_over_time on read; exact up to 2^53"
    )
    durability = "in memory when acknowledged: a kill loses the last 5 to 10 s"
    lighter = "no batch_ids, floats, visible after 5 to 10 s"
    in_process = False

    def __init__(self) -> None:
        self._server = Server("VictoriaMetrics")

    def check(self) -> str:
        command = [program(str(BUILT), "victoria-metrics"), "--version"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def start(self, folder: Path) -> Sequence[int]:
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        (folder / "port").write_text(str(port))
        aggregation = folder / "aggregation.yaml"
        aggregation.write_text(_AGGREGATION)
        command = [program(str(BUILT), "victoria-metrics"), f"-httpListenAddr=127.0.0.1:{port}"]
        command += [f"-storageDataPath={folder / 'data'}", f"-streamAggr.config={aggregation}"]
        # A read is to see what was stored up to now, and to be worked out anew.
        command += ["-search.latencyOffset=0s", "-search.disableCache", "-retentionPeriod=10y"]
        return (self._server.start(command, folder / "victoria.log", lambda: is_listening(port)),)

    def stop(self) -> None:
        self._server.stop(signal.SIGTERM)

    def connector(self, folder: Path) -> Callable[[], Connection]:
        port = int((folder / "port").read_text())
        return lambda: _VictoriaConnection(port)


class _VictoriaConnection:
    def __init__(self, port: int) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port)
        self._http.connect()

    def post(self, body: bytes) -> None:
        # No name holds a space, a comma or an equals sign, which would have to be escaped.
        lines = [
            f"flows,src_app={source},dest_app={target},vpc_id={vpc},hour={hour}"
            f" rx={received},tx={sent}"
            for source, target, vpc, hour, received, sent in rows_of(body)
        ]
        self._ask("POST", "/write", "\n".join(lines).encode())

    def settle(self) -> None:
        """Waits until what was summed in memory is stored: the second time from now that this is
        done, it was begun after the last post."""
        done = self._intervals_stored() + 2
        deadline_s = time.monotonic() + _SETTLED_S_MAX
        while self._intervals_stored() < done:
            if time.monotonic() > deadline_s:
                raise SubjectFailed("VictoriaMetrics does not store its sums")
            time.sleep(0.1)
        self._ask("GET", "/internal/force_flush")

    def read(self, hour: int) -> ExpectedSums:
        received, sent = (self._sums(metric, hour) for metric in ("rx", "tx"))
        return {key: (received[key], sent[key]) for key in sorted(received)}

    def _sums(self, metric: str, hour: int) -> dict[Key, int]:
        selector = f'{{__name__="flows_{metric}:{_OUTPUT}",hour="{hour:d}"}}'
        query = f"sum_over_time({selector}[{_HELD_FOR_S}s])"
        asked = urlencode({"query": query, "nocache": "1"})
        answer = json.loads(self._ask("GET", f"/api/v1/query?{asked}"))
        found: dict[Key, int] = {}
        for series in answer["data"]["result"]:
            labels = series["metric"]
            key = (labels["src_app"], labels["dest_app"], labels["vpc_id"], int(labels["hour"]))
            found[key] = int(float(series["value"][1]))
        return found

    def _intervals_stored(self) -> int:
        lines = self._ask("GET", "/metrics").decode().splitlines()
        # Not there before the first.
        return sum(int(line.split()[-1]) for line in lines if line.startswith(_STORED))

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        self._http.request(method, path, body)
        answer = self._http.getresponse()
        text = answer.read()
        if not 200 <= answer.status < 300:
            raise SubjectFailed(f"VictoriaMetrics answered {answer.status}: {text[:500]!r}")
        return text

    def close(self) -> None:
        self._http.close()
