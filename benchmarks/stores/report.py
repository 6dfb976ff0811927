"""The page of a run of stores, as Markdown: one row a store."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.report import MIB, rows, where
from benchmarks.results import Line, best, sizes

_MEMORY_SIZE = 1_000
"""The size of batch that memory and p99 are told of, where it was measured."""


def page(results: Line) -> str:
    """What was measured, the table, where."""
    stores = "\n".join(f"- **{name}**: {about}" for name, about in results["stores"].items())
    left_out = "".join(
        f"\n- **{name}** was left out: {why}" for name, why in results["left_out"].items()
    )
    flows = next((line["flows"] for line in results["reads"] if "flows" in line), 0)
    passes = results["options"]["records_per_flow"]
    tried = " or ".join(str(n) for n in sorted({line["connections"] for line in results["writes"]}))
    return f"""# What each store gives and costs

{stores}{left_out}

Records a second at so many records a batch, over {tried} connections, whichever was better; p99 and
the highest memory at {_of_memory(results):,} a batch. Reads of an hour of {flows:,} flows, each
of which came in {passes} batches, in ms:
the first after a restart, after a change of that hour, and unchanged. Disk: of that hour alone,
less what an empty database server holds. The kill is a kill -9 of the service under load, of
batches of one record; what was acknowledged and then missing is what it lost. Every sum was held
against what was sent.

{rows(_head(results), _stores(results))}

{rows(("where", ""), where(results))}
"""


def _of_memory(results: Line) -> int:
    measured = sizes(results["writes"])
    return _MEMORY_SIZE if _MEMORY_SIZE in measured else measured[-1]


def _head(results: Line) -> tuple[str, ...]:
    rates = (f"records/s at {size:,}" for size in sizes(results["writes"]))
    reads = ("read cold", "changed", "unchanged")
    last = ("memory MiB", "disk bytes/flow", "lost by kill -9, of acknowledged")
    return "store", *rates, "p99 ms", *reads, *last


def _stores(results: Line) -> Iterable[tuple[str, ...]]:
    reads = {line["who"]: line for line in results["reads"]}
    kills = {line["who"]: line for line in results["kills"]}
    for name in results["stores"]:
        written = [best(results["writes"], name, size) for size in sizes(results["writes"])]
        of = best(results["writes"], name, _of_memory(results))
        memory = of["memory_bytes_highest"] / MIB if "memory_bytes_highest" in of else None
        read = reads.get(name, {})
        yield (
            name,
            *(_number(line, "records_per_s", "{:,.0f}") for line in written),
            _number(of, "p99_ms", "{:,.1f}"),
            *(_number(read, f"{kind}_ms", "{:,.1f}") for kind in ("cold", "changed", "unchanged")),
            "" if memory is None else f"{memory:,.0f}",
            _number(read, "disk_bytes_per_flow", "{:,.0f}"),
            _lost(kills.get(name, {})),
        )


def _number(line: Line, key: str, form: str) -> str:
    return "failed" if "failed" in line else form.format(line[key]) if key in line else "none"


def _lost(line: Line) -> str:
    if "failed" in line or not line:
        return "failed" if line else ""
    last = f", the last {line['missing_s']:,.1f} s" if line["missing"] else ""
    return f"{line['missing']:,} of {line['acknowledged']:,}{last}"
