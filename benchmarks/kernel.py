"""How fast the native kernel is beside its twin, and beside simdjson where that is installed.

    python -m benchmarks.kernel

Each reader gets the same bodies in the same run, in turn, on one core; the best of several rounds
counts, in CPU time. Kernel and twin check, sum and hold the records; simdjson (pysimdjson) only
parses them, without making Python objects: it stands for what plain reading costs.
"""

from __future__ import annotations

import importlib
import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import flowtally_kernel as kernel
import pyarrow as pa

from benchmarks.traffic import Record, generated, hour_of_flows
from flowtally.model import Tally
from flowtally.wire import blob
from flowtally.wire.arrow_records import decode_arrow
from flowtally.wire.json_records import decode_array, decode_lines
from flowtally.wire.media import SumsFormat
from flowtally.wire.sums import encode_sums

RECORDS = 20_000
RECORDS_MAX = 100_000
BYTES_MAX = 1 << 25
ROUNDS = 6

Work = Callable[[bytes], object]


def rates(works: dict[str, Work], bodies: list[bytes], count: int) -> dict[str, float]:
    """Millions of records per CPU-second, the best round of each."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(ROUNDS):
        for name, work in works.items():
            began = time.process_time()
            for body in bodies:
                work(body)
            best[name] = min(best[name], time.process_time() - began)
    return {name: count / seconds / 1e6 for name, seconds in best.items()}


def say(what: str, found: dict[str, float]) -> None:
    """One line: the kernel's rate, and those of others with how many times faster it is."""
    others = [
        f"{name} {rate:7.3f} ({found['kernel'] / rate:5.1f}x)"
        for name, rate in found.items()
        if name != "kernel"
    ]
    print(f"{what:36} kernel {found['kernel']:7.3f}  {'  '.join(others)}", flush=True)


def array_readers() -> dict[str, Work]:
    """Whatever reads JSON arrays."""
    found: dict[str, Work] = {
        "kernel": lambda body: kernel.decode_json(body, RECORDS_MAX),
        "twin": lambda body: decode_array(body, RECORDS_MAX),
    }
    try:
        simdjson: Any = importlib.import_module("simdjson")
    except ModuleNotFoundError:
        print("simdjson is left out: pysimdjson is not installed")
        return found
    parser = simdjson.Parser()
    return found | {"simdjson": lambda body: len(parser.parse(body))}


def arrays(records: list[dict[str, Any]], size: int) -> list[bytes]:
    """Bodies of so many records."""
    parts = (records[start : start + size] for start in range(0, len(records), size))
    return [json.dumps(part, separators=(",", ":"), ensure_ascii=False).encode() for part in parts]


def json_bodies(records: list[dict[str, Any]]) -> None:
    """By size of the body, then by what else it holds."""
    readers = array_readers()
    for size, count in ((1, 2_000), (10, 10_000), (100, RECORDS), (1_000, RECORDS)):
        say(f"JSON, {size:,} a body", rates(readers, arrays(records[:count], size), count))
    draw = random.Random(5)
    variants = {
        "": records,
        ", 10 % names with escapes": [
            one | {"src_app": 'a"b'} if number % 10 == 0 else one
            for number, one in enumerate(records)
        ],
        ", all names beyond ASCII": [one | {"src_app": f"é{one['src_app']}ü"} for one in records],
        ", an unknown field in each": [
            one | {"seen": number} for number, one in enumerate(records)
        ],
        ", keys in random order": [
            dict(draw.sample(sorted(one.items()), len(one))) for one in records
        ],
    }
    for what, varied in variants.items():
        say(f"JSON, 10,000 a body{what}", rates(readers, arrays(varied, 10_000), len(varied)))


def other_bodies(records: list[dict[str, Any]], size: int) -> None:
    """NDJSON and Arrow."""
    lines = [
        b"\n".join(
            json.dumps(one, separators=(",", ":")).encode() for one in records[at : at + size]
        )
        for at in range(0, len(records), size)
    ]
    works: dict[str, Work] = {
        "kernel": lambda body: kernel.decode_ndjson(body, RECORDS_MAX),
        "twin": lambda body: decode_lines(body, RECORDS_MAX),
    }
    say(f"NDJSON, {size:,} a body", rates(works, lines, len(records)))
    streams = []
    for at in range(0, len(records), size):
        table = pa.Table.from_pylist(records[at : at + size])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        streams.append(bytes(sink.getvalue()))
    works = {
        "kernel": arrow_by_the_kernel,
        "twin": lambda b: decode_arrow(b, RECORDS_MAX, BYTES_MAX),
    }
    say(f"Arrow, {size:,} a body", rates(works, streams, len(records)))


def arrow_by_the_kernel(body: bytes) -> object:
    """pyarrow reads and validates the stream, the kernel sums it."""
    with pa.ipc.open_stream(pa.py_buffer(body)) as stream:
        table = stream.read_all()
    table.validate(full=True)
    return kernel.tally_arrow(table, RECORDS_MAX)


def blobs(bodies: list[bytes]) -> None:
    """Tallies into blobs, and blobs into one."""
    ours = [tally for body in bodies if (tally := kernel.decode_json(body, RECORDS_MAX))]
    twins = [decode_array(body, RECORDS_MAX)[0] for body in bodies]
    encoded = [blob.encode_tally(tally) for tally in twins]
    rows = sum(map(len, twins))

    def merged(_: bytes) -> Tally:
        whole = Tally()
        for one in encoded:
            for flow, sums in blob.decode_tally(one):
                whole.add(flow, *sums)
        return whole

    works: dict[str, Work] = {
        "kernel": lambda _: [kernel.encode([tally]) for tally in ours],
        "twin": lambda _: [blob.encode_tally(tally) for tally in twins],
    }
    say("tallies into blobs (M flows/s)", rates(works, [b""], rows))
    works = {
        "kernel": lambda _: kernel.encode(ours),
        "twin": lambda _: blob.encode_tallies(twins),
    }
    say("tallies into one blob (M flows/s)", rates(works, [b""], rows))
    works = {"kernel": lambda _: kernel.merge(encoded), "twin": merged}
    say("blobs merged (M flows/s)", rates(works, [b""], rows))


def reads(flows: list[Record]) -> None:
    """Sums into JSON."""
    columns = dict(zip(Record._fields, zip(*flows, strict=True), strict=True))
    decimal = pa.decimal128(38, 0)
    table = pa.table(
        {
            field: pa.array(values, decimal if field.startswith("bytes") else None)
            for field, values in columns.items()
        }
    )
    works: dict[str, Work] = {
        "kernel": lambda _: kernel.sums_json(table),
        "twin": lambda _: encode_sums(table, SumsFormat.JSON),
    }
    say(f"sums of {len(flows):,} flows into JSON", rates(works, [b""], len(flows)))


def main() -> int:
    """Prints a table, in millions of records per CPU-second."""
    records = [record._asdict() for record in generated(RECORDS, seed=1)]
    json_bodies(records)
    other_bodies(records, 10_000)
    blobs(arrays(records, 1_000))
    reads(hour_of_flows(apps=70, vpcs=10))
    return 0


if __name__ == "__main__":
    sys.exit(main())
