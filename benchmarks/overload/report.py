"""The page of the overload and the soak, as Markdown, and their figure."""

from __future__ import annotations

from benchmarks import chart
from benchmarks.overload.loads import LOADS, TIMES
from benchmarks.report import MIB, rows, where
from benchmarks.results import Line

_FLOODS_HEAD = (
    "load",
    "connections",
    "peak, records/s",
    "goodput, records/s",
    "of the peak",
    "refused",
    "refused p50 / p99 ms",
    "without Retry-After",
    "no answer",
    "memory MiB (bound)",
    "normal again after",
)
_SOAK_HEAD = ("", "first third", "second", "last", "a minute, by least squares")


def page(results: Line) -> str:
    """What was asked for, and what became of it."""
    about = "\n".join(f"- **{load.name}**: {load.about}" for load in LOADS.values())
    floods = [_flood(line) for line in results.get("floods", [])]
    soaks = "\n".join(_soak(line) for line in results.get("soaks", []))
    note = f"\n{results['note']}\n" if "note" in results else ""
    return f"""# Flowtally under {TIMES} times its load, and under half of it for long

`flowtally serve` as it comes, on an empty folder for each load. Server and clients share the
machine. Refused clients do not wait unless it is said: they ask again at once. Every sum was held
against what was acknowledged; what had no answer was sent again by its key.
{note}
{about}

{rows(_FLOODS_HEAD, floods) if floods else ""}

Of the peak: where clients of two kinds come together, what each of them had beside what it has
alone, added up. Who finds no place waits in the kernel's queue and is told nothing; who is told 503
is counted as refused, and how soon.

Normal again: how many seconds after the flood no second's p99 of a few steady batches is more than
1.5 times that of the slowest second before it.

{soaks}
{rows(("where", ""), where(results))}
"""


def figure(results: Line) -> str | None:
    """What was acknowledged in each second of the floods, and what the soak held."""
    panels = []
    floods = [line for line in results.get("floods", []) if "failed" not in line]
    if floods:
        series = [
            chart.Series(
                line["load"],
                [(float(at), float(value)) for at, value in enumerate(line["records_in_second"])],
            )
            for line in floods
        ]
        panels.append(chart.Panel("Flood: records/s acknowledged", series, log_x=False))
    for line in results.get("soaks", []):
        if "failed" not in line:
            points = [(one["at_s"], one["memory_bytes"] / MIB) for one in line["samples"]]
            soak = [chart.Series("memory", points)]
            panels.append(chart.Panel("Soak: memory, MiB", soak, log_x=False))
    return chart.figure("Overload and soak", "seconds", panels) if panels else None


def _flood(line: Line) -> tuple[str, ...]:
    if "failed" in line:
        return (line["load"], f"failed: {line['failed'][:80]}", *[""] * (len(_FLOODS_HEAD) - 2))
    refused = ", ".join(f"{status}: {count:,}" for status, count in sorted(line["refused"].items()))
    after_s = line["normal_after_s"]
    return (
        line["load"],
        f"{line['connections']:,}",
        " and ".join(f"{best['records_per_s']:,.0f}" for best in line["peaks"]),
        f"{line['records_per_s']:,.0f}",
        f"**{100 * line['goodput_ratio']:.0f} %**",
        refused or "none",
        f"{line['refused_p50_ms']:,.0f} / {line['refused_p99_ms']:,.0f}" if refused else "",
        str(line["without_retry_after"]),
        f"{line['lost']:,} (not connected: {line['not_connected']:,})",
        f"{line['memory_bytes_highest'] / MIB:,.0f} ({line['memory_bytes_bound'] / MIB:,.0f})",
        "not seen" if after_s is None else f"{after_s} s",
    )


def _soak(line: Line) -> str:
    if "failed" in line:
        return f"## Soak\n\nfailed: {line['failed']}\n"
    found = []
    for name, title, scale in (
        ("memory_bytes", "memory, MiB", MIB),
        ("descriptors", "descriptors", 1),
        ("threads", "threads", 1),
    ):
        of = line[name]
        highest = [f"{value / scale:,.0f}" for value in of["highest_of_thirds"]]
        found.append((f"highest {title}", *highest, f"{of['per_minute'] / scale:+.2f}"))
    return f"""## Soak

{line["seconds"]:,.0f} s at {line["records_per_s"]:,.0f} records/s (the peak was
{line["peak_records_per_s"]:,.0f}), p50 {line["p50_ms"]:,.1f} ms, p99 {line["p99_ms"]:,.0f} ms;
beside it {line["repeats"]:,} repeats, {line["reads"]:,} reads of an hour, {line["refused"]:,}
bodies that are refused, {line["cut_off"]:,} connections that came to nothing. Writes refused:
{line["refused_writes"]:,}, without an answer: {line["lost"]:,}.

{rows(_SOAK_HEAD, found)}
"""
