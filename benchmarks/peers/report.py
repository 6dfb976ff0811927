"""The page of a run beside peers, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.report import MIB, rows, where
from benchmarks.results import Line, best, sizes

_HEAD = (
    "records a batch",
    "who",
    "records/s",
    "Flowtally's ratio",
    "connections",
    "p50 ms",
    "p99 ms",
    "CPU s per million records",
    "memory MiB (highest)",
    "disk bytes/flow",
)
_READ_HEAD = ("who", "cold, ms", "after a change, ms", "unchanged, ms", "disk bytes/flow")
_READS = (("cold", "cold_ms"), ("after a change", "changed_ms"), ("unchanged", "unchanged_ms"))


def page(results: Line) -> str:
    """What was measured, how durable each is, the figures, and where somebody else is ahead."""
    left_out = "".join(
        f"\n- **{name}** was left out: {why}." for name, why in results["left_out"].items()
    )
    flows = next((line["flows"] for line in results["reads"] if "flows" in line), 0)
    return f"""# Flowtally beside what people would choose instead

{_about(results)}{left_out}

**The peers do lighter work.** The services are posted JSON over HTTP, check every field, and
Flowtally counts each batch_id once. A peer gets the same bodies from client processes that hand
them to its own driver, parsed with msgspec unless it reads JSON itself: no HTTP is in its figures,
except where that is how it is fed, and what is sent to it twice counts twice. Each at the best of
the numbers of connections that were tried; those that run in the client's process are measured with
the client, and over 4 connections at most. A window lasts until enough was acknowledged, up to ten
times as long for who is slow. Every sum was held against what was sent.

{rows(_HEAD, _writes(results))}

{_ahead(results)}

Reads of an hour of {flows:,} flows: the first after a restart (files in the system's cache), each
after a change of that hour, and unchanged. Those of Flowtally and of the row store are answers over
HTTP, as JSON; the others' are rows in the client's memory. Disk: of that hour alone, after a stop,
less what an empty server holds.

{rows(_READ_HEAD, _reads(results))}

All numbers of connections that were tried, in records a second:

{rows(_tried_head(results), _tried(results))}

{rows(("where", ""), where(results))}
"""


def _about(results: Line) -> str:
    lines = []
    for name, peer in results["peers"].items():
        spared = f" Lighter: {peer['lighter']}." if peer["lighter"] else ""
        version = f" {peer['version']}." if "version" in peer else ""
        lines.append(f"- **{name}**: {peer['about']}. {peer['durability']}.{spared}{version}")
    return "\n".join(lines)


def _writes(results: Line) -> Iterable[tuple[str, ...]]:
    for size in sizes(results["writes"]):
        own = best(results["writes"], "flowtally", size).get("records_per_s", 0.0)
        for name in results["peers"]:
            found = best(results["writes"], name, size)
            if "records_per_s" not in found:
                yield f"{size:,}", name, _without_figures(found), *[""] * 7
                continue
            yield (
                f"{size:,}",
                name,
                f"{found['records_per_s']:,.0f}",
                "" if name == "flowtally" else f"**{own / found['records_per_s']:.1f}**",
                str(found["connections"]),
                f"{found['p50_ms']:,.1f}",
                f"{found['p99_ms']:,.1f}",
                f"{found['cpu_us_per_record']:,.1f}",
                f"{found['memory_bytes'] / MIB:,.0f} ({found['memory_bytes_highest'] / MIB:,.0f})",
                f"{found['disk_bytes_per_flow']:,.0f}",
            )


def _without_figures(line: Line) -> str:
    return f"failed: {line['failed'].splitlines()[0][:80]}" if line else "not measured"


def _ahead(results: Line) -> str:
    """Says plainly who was faster, at what."""
    found = []
    for size in sizes(results["writes"]):
        own = best(results["writes"], "flowtally", size).get("records_per_s", 0.0)
        for name, peer in results["peers"].items():
            rate = best(results["writes"], name, size).get("records_per_s", 0.0)
            if rate > own > 0:
                found.append(
                    f"- at {size:,} a batch **{name}** took {rate / own:.1f} times as many records"
                    f" ({peer['durability']})"
                )
    reads = {line["who"]: line for line in results["reads"]}
    for title, key in _READS:
        own = reads.get("flowtally", {}).get(key, 0.0)
        found += [
            f"- reads, {title}: **{name}** took {line[key]:,.0f} ms, Flowtally {own:,.0f} ms"
            for name, line in reads.items()
            if line.get(key, own) < own
        ]
    return "Who was ahead of Flowtally:\n\n" + ("\n".join(found) or "- nobody, in this run")


def _reads(results: Line) -> Iterable[tuple[str, ...]]:
    for found in results["reads"]:
        if "failed" in found:
            yield found["who"], _without_figures(found), "", "", ""
            continue
        waits = [f"{found[key]:,.1f}" for _, key in _READS]
        yield found["who"], *waits, f"{found['disk_bytes_per_flow']:,.0f}"


def _tried_head(results: Line) -> tuple[str, ...]:
    return "who", *(f"{size:,} a batch" for size in sizes(results["writes"]))


def _tried(results: Line) -> Iterable[tuple[str, ...]]:
    for name in results["peers"]:
        cells = []
        for size in sizes(results["writes"]):
            tried = sorted(
                (line["connections"], line.get("records_per_s"))
                for line in results["writes"]
                if line["who"] == name and line["batch_records"] == size
            )
            cells.append(
                ", ".join(
                    f"{connections}: {'failed' if rate is None else f'{rate:,.0f}'}"
                    for connections, rate in tried
                )
            )
        yield name, *cells
