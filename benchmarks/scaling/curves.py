"""All curves: what is measured, how it is told, and why it has the shape that it has."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.clients import Posting
from benchmarks.run import measure_writes
from benchmarks.scaling.curve import Axes, Column, Curve, Point
from benchmarks.scaling.held import measure_held
from benchmarks.scaling.lasting import (
    measure_half_load,
    measure_lasting,
    said_of_lasting,
    windows_of,
)
from benchmarks.subject import FLOWTALLY
from benchmarks.traffic import Pool

_MIB = 1024 * 1024
_FLOWS_OF_AN_HOUR = 50_000
_FLOWS_OF_ALL_HOURS = 1_000_000
_RECORDS_AT_ONCE_MAX = 800_000
"""In flight together; the service takes a million flows, and tells more than that to come back."""
_RATE = Column("records/s", "records_per_s")
_P50 = Column("p50 ms", "p50_ms")
_P99 = Column("p99 ms", "p99_ms")
_MEMORY = Column("memory MiB (highest)", "memory_bytes_highest", _MIB)
_READS = (
    Column("read cold, ms", "cold_ms"),
    Column("after a change, ms", "changed_ms"),
    Column("unchanged, ms", "unchanged_ms"),
)
_READ_AXES = Axes(
    "Read of one hour, ms",
    {"cold": "cold_ms", "changed": "changed_ms", "unchanged": "unchanged_ms"},
    log_y=True,
)


def _flows(options: argparse.Namespace, shared: Path) -> Iterator[Point]:
    sizes = (200, 2_000) if options.small else (10_000, 100_000, 1_000_000, 5_000_000, 20_000_000)
    for flows in sizes:
        hours = max(1, flows // _FLOWS_OF_AN_HOUR)
        what = {"flows_held": flows, "hours_held": hours}
        yield Point(what, partial(measure_held, flows, hours, options))


def _hours(options: argparse.Namespace, shared: Path) -> Iterator[Point]:
    flows = 2_000 if options.small else _FLOWS_OF_ALL_HOURS
    for hours in (1, 10) if options.small else (1, 10, 100, 1_000, 10_000):
        what = {"flows_held": flows, "hours_held": hours}
        yield Point(what, partial(measure_held, flows, hours, options))


def _batch_sizes(options: argparse.Namespace, shared: Path) -> Iterator[Point]:
    for size in (1, 10) if options.small else (1, 10, 100, 1_000, 10_000, 100_000):
        for wanted in (2,) if options.small else (8, 64):
            connections = min(wanted, _RECORDS_AT_ONCE_MAX // size)
            if connections == wanted:
                yield _written(size, connections, options, shared)


def _connections(options: argparse.Namespace, shared: Path) -> Iterator[Point]:
    for size in (1,) if options.small else (1, 100, 1_000):
        counts = (1, 2) if options.small else (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
        for connections in counts:
            yield _written(size, connections, options, shared)


def _written(size: int, connections: int, options: argparse.Namespace, shared: Path) -> Point:
    def measured(folder: Path) -> dict[str, object]:
        pool = Pool(size)
        bodies = shared / f"bodies-{size}"
        pool.write(bodies)
        posting = Posting(options.clients, connections, options.warm_up, options.seconds)
        return measure_writes(FLOWTALLY, pool, bodies, posting, folder)

    return Point({"batch_records": size, "connections": connections}, measured)


def _run_length(options: argparse.Namespace, shared: Path) -> Iterator[Point]:
    seconds = 2.0 if options.small else options.long_seconds
    what = {"batch_records": 1_000, "connections": 8, "asked_s": seconds}
    yield Point(what, partial(measure_lasting, 1_000, 8, seconds, options))


def _half_load(options: argparse.Namespace, shared: Path) -> Iterator[Point]:
    for size in (10,) if options.small else (1, 100, 1_000, 10_000):
        yield Point({"batch_records": size}, partial(measure_half_load, size, options))


FLOWS = Curve(
    name="flows",
    title="Flows held",
    about="A fresh service is filled with so many flows in hours of 50,000, and one of 50,000 more"
    " that is read. After a restart: reads; then updates of any of the flows, 1,000 records a batch"
    " over 8 connections; then it compacts, stops, and the disk is looked at.",
    reason="A batch is acknowledged from the journal, which does not know how many flows there are;"
    " what grows is the compaction beside it, which rewrites an arrival hour when a good part of it"
    " is new. A read touches the row groups of its hour only, since compacted rows lie in the order"
    " of hours. Memory is DuckDB's buffers, up to its own limit. Disk bytes a flow fall until the"
    " fixed parts of the files no longer count.",
    x=Column("flows held", "flows_held"),
    columns=(
        _RATE,
        _P99,
        *_READS,
        _MEMORY,
        Column("memory bytes/flow", "memory_bytes_per_flow"),
        Column("disk bytes/flow", "disk_bytes_per_flow"),
    ),
    panels=(
        Axes("Records a second", {"": "records_per_s"}),
        _READ_AXES,
        Axes("Memory (highest), bytes", {"": "memory_bytes_highest"}, log_y=True),
        Axes("Disk, bytes a flow", {"": "disk_bytes_per_flow"}, log_y=True),
    ),
    points=_flows,
)
BATCH_SIZE = Curve(
    name="batch-size",
    title="Records a batch",
    about="The traffic of `make bench` in batches of one size, over 8 and over 64 connections.",
    reason="A small batch costs what a request and its share of a commit cost, whatever is in it:"
    " the rate grows with the batch until reading and summing its records is the larger part, and"
    " is level from there. At 100,000 records few bodies are under way at once, so reading one"
    " overlaps less with committing another.",
    x=Column("records a batch", "batch_records"),
    columns=(Column("connections", "connections"), _RATE, _P50, _P99, _MEMORY),
    panels=(
        Axes("Records/s, by connections", {"{value}": "records_per_s"}, "connections", True),
        Axes("p99 in ms, by connections", {"{value}": "p99_ms"}, "connections", True),
        Axes("CPU s/million, the same", {"{value}": "cpu_us_per_record"}, "connections", True),
    ),
    points=_batch_sizes,
)
CONNECTIONS = Curve(
    name="connections",
    title="Connections",
    about="The traffic of `make bench` in batches of 1, 100 and 1,000 records, over so many"
    " connections that each wait for their answer.",
    reason="What waits while a commit is under way shares the next one, so more connections share"
    " a sync between more batches: the rate grows with them until the processors are busy. From"
    " there on more connections wait for each other, and the wait grows in step with them. With one"
    " record a batch the rate is then level: each request costs the same. With more it still grows,"
    " since batches that are committed together are summed together: of many, most flows are alike,"
    " and less is journalled and stored for each.",
    x=Column("connections", "connections"),
    columns=(Column("records a batch", "batch_records"), _RATE, _P50, _P99, _MEMORY),
    panels=(
        Axes("Records/s, by batch size", {"{value:,}": "records_per_s"}, "batch_records", True),
        Axes("p99 in ms, by batch size", {"{value:,}": "p99_ms"}, "batch_records", True),
        Axes("CPU s/million, by size", {"{value:,}": "cpu_us_per_record"}, "batch_records", True),
    ),
    points=_connections,
)
HOURS = Curve(
    name="hours",
    title="Hours held",
    about="A million flows in so many hours, measured as those of the first curve are.",
    reason="An hour is a column of the key and no table or file of its own, so many hours cost what"
    " few cost. A batch that touches many hours gives each a new revision, in memory up to 100,000"
    " hours.",
    x=Column("hours held", "hours_held"),
    columns=(
        _RATE,
        _P99,
        *_READS,
        Column("list of hours, ms", "hours_ms"),
        _MEMORY,
        Column("disk bytes/flow", "disk_bytes_per_flow"),
    ),
    panels=(
        Axes("Records a second", {"": "records_per_s"}),
        _READ_AXES,
        Axes("Memory (highest), bytes", {"": "memory_bytes_highest"}, log_y=True),
        Axes("Disk, bytes a flow", {"": "disk_bytes_per_flow"}),
    ),
    points=_hours,
)
RUN_LENGTH = Curve(
    name="run-length",
    title="Run length",
    about="8 connections post 1,000 records a batch as fast as they are answered, for as long. A"
    " silence is a time in which no batch was acknowledged; whether a compaction ended in a window"
    " is asked of `/health`.",
    reason="Nothing that a batch costs depends on how long the service runs: batch_ids are kept on"
    " disk, the journal lets go of what is summed, and compaction keeps pace since it waits until a"
    " good part of an hour is new. Compaction and checkpoints work beside the journal and not"
    " before it, so they slow answers by the processor time that they take, and stop none.",
    x=Column("seconds", "at_s"),
    columns=(
        _RATE,
        _P50,
        _P99,
        Column("slowest ms", "worst_ms"),
        Column("silence ms", "silence_ms"),
        Column("compactions", "compactions"),
    ),
    panels=(
        Axes("Records a second", {"": "records_per_s"}),
        Axes("Of the answers, ms", {"p50": "p50_ms", "p99": "p99_ms", "slowest": "worst_ms"}),
        Axes("Longest silence, ms", {"": "silence_ms"}),
    ),
    points=_run_length,
    log_x=False,
    spread=windows_of,
    summary=said_of_lasting,
)
HALF_LOAD = Curve(
    name="half-load",
    title="Half load, beside DuckDB's commit alone",
    about="Batches at fixed times at half the rate of the most that is taken, waits counted from"
    " when each was due (the clock of the load is right to a millisecond); and, before that, DuckDB"
    " alone on the same disk, in process, appending and committing the same batches' sums one after"
    " the other.",
    reason="At half load a batch finds at most one commit under way and waits for the rest of it"
    " and for its own: the median. The slowest come in groups, about one in a second: then the"
    " applier sums what has come, the journal's log is emptied, or a compaction runs, each of which"
    " shares two processors, and Python's one lock, with the event loop and the commits; what is"
    " due meanwhile waits together. DuckDB alone has both processors, no HTTP and nothing beside"
    " it; where its batches are large enough that it checkpoints, its p99 is the higher one.",
    x=Column("records a batch", "batch_records"),
    columns=(
        Column("most records/s", "most_records_per_s"),
        Column("half: records/s", "records_per_s"),
        _P50,
        _P99,
        Column("slowest ms", "worst_ms"),
        Column("DuckDB p50 ms", "duckdb_p50_ms"),
        Column("DuckDB p99 ms", "duckdb_p99_ms"),
        Column("p99 beside DuckDB's", "ratio"),
    ),
    panels=(
        Axes("p50, ms", {"half load": "p50_ms", "DuckDB alone": "duckdb_p50_ms"}, log_y=True),
        Axes("p99, ms", {"half load": "p99_ms", "DuckDB alone": "duckdb_p99_ms"}, log_y=True),
    ),
    points=_half_load,
)
CURVES = {
    curve.name: curve for curve in (FLOWS, BATCH_SIZE, CONNECTIONS, HOURS, RUN_LENGTH, HALF_LOAD)
}
