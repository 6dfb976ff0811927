"""The page of a run beside peers, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from benchmarks.report import rows, where

_MIB = 1024 * 1024
_HEAD = (
    "records a batch",
    "who",
    "records/s",
    "Flowtally's ratio",
    "connections",
    "p50 ms",
    "p99 ms",
    "CPU s per million records",
    "memory MiB",
    "disk bytes/flow",
)


def page(results: dict[str, Any]) -> str:
    """What was measured, how durable each is, the figures, and where somebody else is ahead."""
    about = "\n".join(
        f"- **{name}**: {peer['about']}. {peer['durability']}.{_version(peer)}"
        for name, peer in results["peers"].items()
    )
    left_out = "".join(
        f"\n- **{name}** was left out: {why}." for name, why in results["left_out"].items()
    )
    return f"""# Flowtally beside what people would choose instead

{about}{left_out}

The services are posted JSON over HTTP. A peer gets the same bodies from client processes that parse
and sum them with msgspec and hand the rows to its own driver: no HTTP is in its figures, and no
batch_ids, so what is sent to it twice counts twice. Each at the best of the numbers of connections
that were tried. What is in the client's process is measured with the client. Every sum was held
against what was sent.

{rows(_HEAD, _writes(results))}

{_ahead(results)}

Reads of an hour of {results["reads"]["flows"]:,} flows. Flowtally's and the row store's are answers
over HTTP, as JSON; the others' are rows in the client's memory.

{rows(("who", "after a change, ms", "unchanged, ms"), _reads(results))}

{rows(("where", ""), where(results))}
"""


def _version(peer: dict[str, Any]) -> str:
    return f" {peer['version']}." if "version" in peer else ""


def _writes(results: dict[str, Any]) -> Iterable[tuple[str, ...]]:
    for line in results["writes"]:
        own = line["flowtally"]["records_per_s"]
        for name in results["peers"]:
            found = line[name]
            size = f"{line['batch_records']:,}"
            if "failed" in found:
                yield size, name, f"failed: {found['failed'].splitlines()[0][:80]}", *[""] * 7
                continue
            yield (
                size,
                name,
                f"{found['records_per_s']:,.0f}",
                "" if name == "flowtally" else f"**{own / found['records_per_s']:.1f}**",
                str(found["connections"]),
                f"{found['p50_ms']:,.1f}",
                f"{found['p99_ms']:,.1f}",
                f"{found['cpu_us_per_record']:,.1f}",
                f"{found['memory_bytes'] / _MIB:,.0f}",
                f"{found['disk_bytes_per_flow']:,.0f}",
            )


def _ahead(results: dict[str, Any]) -> str:
    """Says plainly who was faster, at what."""
    found = [
        f"- at {line['batch_records']:,} records a batch **{name}** took"
        f" {line[name]['records_per_s'] / line['flowtally']['records_per_s']:.1f} times as many"
        for line in results["writes"]
        for name in results["peers"]
        if line[name]["records_per_s"] > line["flowtally"]["records_per_s"] > 0
    ]
    own = results["reads"]["flowtally"].get("changed_ms", 0.0)
    found += [
        f"- reads after a change: **{name}** took {results['reads'][name]['changed_ms']:,.0f} ms,"
        f" Flowtally {own:,.0f} ms"
        for name in results["peers"]
        if results["reads"][name].get("changed_ms", own) < own
    ]
    return "Who was ahead of Flowtally:\n\n" + ("\n".join(found) or "- nobody, in this run")


def _reads(results: dict[str, Any]) -> Iterable[tuple[str, ...]]:
    for name in results["peers"]:
        found = results["reads"][name]
        if "failed" in found:
            yield name, f"failed: {found['failed'].splitlines()[0][:80]}", ""
        else:
            yield name, f"{found['changed_ms']:,.1f}", f"{found['unchanged_ms']:,.1f}"
