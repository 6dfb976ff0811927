"""The table of a run, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.results import Line, best, sizes
from benchmarks.subject import FLOWTALLY, ROWSTORE, SUBJECTS

MIB = 1024 * 1024
_READS = (
    ("cold: the first after a restart", "cold_ms"),
    ("warm, after a post to that hour", "changed_ms"),
    ("warm, unchanged", "unchanged_ms"),
)


def table(results: Line) -> str:
    """One page: what was measured, the figures, the ratios."""
    about = "\n".join(f"- **{subject.name}**: {subject.about}" for subject in SUBJECTS)
    flows = results["reads"][0]["flows"]
    tried = " or ".join(str(n) for n in sorted({line["connections"] for line in results["writes"]}))
    return f"""# Flowtally beside the service everyone writes first

{about}

Posts over {tried} connections, each waiting for its answer, whichever of them served it better;
acknowledged = synced. Every sum was held against what was sent. Ratios: how many times better
Flowtally is.

{rows(_WRITES_HEAD, _writes(results))}

What each took of the processors meanwhile, in cores, and what held it back. A client is one thread:
at 1.00 the load would be the bottleneck.

{rows(_CORES_HEAD, _cores(results))}

Reads of an hour of {flows:,} flows, as JSON.

{rows(_READS_HEAD, _reads(results))}

{rows(("where", ""), where(results))}
"""


_WRITES_HEAD = (
    "records a batch",
    "service",
    "records/s",
    "ratio",
    "connections",
    "p50 ms",
    "p99 ms",
    "memory MiB (highest)",
    "flows",
    "disk bytes/flow",
)
_CORES_HEAD = (
    "records a batch",
    "service",
    "service",
    "busiest client",
    "idle",
    "held back by",
    "service's µs a record",
    "ratio",
)
_READS_HEAD = ("read", "flowtally ms", "rowstore ms", "ratio")


def _writes(results: Line) -> Iterable[tuple[str, ...]]:
    for size, of in _lines(results):
        ratio = of[FLOWTALLY.name]["records_per_s"] / of[ROWSTORE.name]["records_per_s"]
        for subject in SUBJECTS:
            found = of[subject.name]
            yield (
                f"{size:,}",
                subject.name,
                f"{found['records_per_s']:,.0f}",
                f"**{ratio:.1f}**" if subject is FLOWTALLY else "",
                str(found["connections"]),
                f"{found['p50_ms']:,.2f}",
                f"{found['p99_ms']:,.2f}",
                f"{found['memory_bytes'] / MIB:,.0f} ({found['memory_bytes_highest'] / MIB:,.0f})",
                f"{found['flows']:,}",
                f"{found['disk_bytes_per_flow']:,.0f}",
            )


def _cores(results: Line) -> Iterable[tuple[str, ...]]:
    for size, of in _lines(results):
        own, other = (of[subject.name]["cpu_us_per_record"] for subject in (FLOWTALLY, ROWSTORE))
        for subject in SUBJECTS:
            found = of[subject.name]
            yield (
                f"{size:,}",
                subject.name,
                f"{found['service_cores']:.2f}",
                f"{found['client_cores']:.2f}",
                f"{found['idle_cores']:.2f}",
                found["held_back_by"],
                f"{found['cpu_us_per_record']:,.1f}",
                f"**{other / own:.1f}**" if subject is FLOWTALLY else "",
            )


def _lines(results: Line) -> Iterable[tuple[int, dict[str, Line]]]:
    """Each size of batch, with the best of each service."""
    writes = results["writes"]
    for size in sizes(writes):
        yield size, {subject.name: best(writes, subject.name, size) for subject in SUBJECTS}


def _reads(results: Line) -> Iterable[tuple[str, ...]]:
    of = {line["who"]: line for line in results["reads"]}
    for title, key in _READS:
        own, other = (of[subject.name][key] for subject in (FLOWTALLY, ROWSTORE))
        yield title, f"{own:,.1f}", f"{other:,.1f}", f"**{other / own:.1f}**"


def where(results: Line) -> Iterable[tuple[str, ...]]:
    """What the figures depend on: the machine, the versions, the command."""
    found = results["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    yield "command", f"`{results['command']}`"
    yield "machine", f"{found['processor']}, {found['cores']} cores, {found['system']}"
    yield "memory", f"{found['memory_bytes'] / MIB:,.0f} MiB"
    yield "a synced write of 4 KiB", f"{found['sync_ms']} ms (median)"
    yield "load average before", str(found["load_before"])
    yield "versions", f"Python {found['python']}, {packages}"
    yield "commit", found["commit"]
    if results["resumed"]:
        times = [f"at {one['commit']}, load {one['load_before']}" for one in results["resumed"]]
        yield "cut off and resumed", "; ".join(times)


def rows(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
