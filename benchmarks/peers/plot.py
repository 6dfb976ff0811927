"""The figure of a run beside peers, as SVG: all that was measured of each, in rows of panels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from benchmarks import drawing
from benchmarks.results import Line, best, sizes

_NAMES, _PANEL, _BAR, _ROW, _HEAD, _GAP = 122, 200, 128, 17, 48, 22
_MIB = 1024 * 1024


class _Panel(NamedTuple):
    """What is drawn of each: a figure or two (the second is drawn behind the first), or none."""

    title: str
    figures: Sequence[tuple[float, ...] | None]


def plot(results: Line) -> str:
    """One row of panels for what was taken, one for the answers, one for costs, one for reads."""
    names = list(results["peers"])
    writes, of_size = results["writes"], sizes(results["writes"])
    bands = [
        (title, [_Panel(_size(size), _of(writes, names, size, *keys)) for size in of_size])
        for title, keys in (
            ("Records a second, summed and acknowledged", ("records_per_s",)),
            ("Acknowledgement in ms: p50, and p99 in pale", ("p50_ms", "p99_ms")),
        )
    ]
    most = of_size[-1]
    memory = _of(writes, names, most, "memory_bytes_highest")
    mib = [value and (value[0] / _MIB,) for value in memory]
    costs = [
        _Panel(f"CPU s a million, at {size:,}", _of(writes, names, size, "cpu_us_per_record"))
        for size in dict.fromkeys((of_size[0], most))
    ]
    costs.append(_Panel(f"peak memory in MiB, at {most:,}", mib))
    reads = {line["who"]: line for line in results["reads"]}
    costs.append(
        _Panel(
            "disk bytes a flow, of the hour read", _of_reads(reads, names, "disk_bytes_per_flow")
        )
    )
    bands.append(("What it costs, at so many records a batch", costs))
    flows = next(iter(reads.values()))["flows"] if reads else 0
    kinds = ("cold: the first after a restart", "cold_ms"), ("after a change", "changed_ms")
    bands.append(
        (
            f"Reads of an hour of {flows:,} flows, ms",
            [
                _Panel(title, _of_reads(reads, names, key))
                for title, key in (*kinds, ("unchanged", "unchanged_ms"))
            ],
        )
    )
    return _drawn(results, names, bands)


def _drawn(results: Line, names: list[str], bands: list[tuple[str, list[_Panel]]]) -> str:
    synced = [results["peers"][name]["durability"].startswith("synced") for name in names]
    parts = [
        drawing.text(0, 4, "Flowtally beside what people would choose instead", "title"),
        drawing.text(
            0,
            22,
            "Log scales. Outlined: acknowledged before it is on the disk. The services and"
            " victoriametrics are posted over HTTP; the others are called by their drivers.",
            "small",
        ),
    ]
    top = 34.0
    for title, panels in bands:
        top += _GAP
        parts.append(drawing.text(0, top, title, "head"))
        for row, name in enumerate(names):
            y = top + _HEAD - 16 + row * _ROW
            kind = "ours" if name.startswith("flowtally") else ""
            parts.append(drawing.text(_NAMES - 8, y, name, kind, "end"))
        shared = all("records a batch" in panel.title for panel in panels)
        for number, panel in enumerate(panels):
            values = [
                value
                for one in (panels if shared else [panel])
                for figures in one.figures
                for value in figures or ()
            ]
            # Begun below the least, whose bar would have no length.
            least = min((value for value in values if value > 0), default=1.0)
            scale = drawing.LogScale([least / 1.5, *values], _BAR)
            parts += _panel(_NAMES + number * _PANEL, top, panel, scale, names, synced)
        top += _HEAD - 22 + len(names) * _ROW
    width = _NAMES + 4 * _PANEL - (_PANEL - _BAR - 52)
    return drawing.svg(
        width, top, "Flowtally beside its peers: rates, answers, costs, reads", parts
    )


def _panel(
    left: float,
    top: float,
    panel: _Panel,
    scale: drawing.LogScale,
    names: Sequence[str],
    synced: Sequence[bool],
) -> list[str]:
    bottom = top + _HEAD - 24 + len(names) * _ROW
    parts = [drawing.text(left, top + 18, panel.title, "small")]
    for tick in scale.ticks():
        x = left + scale.at(tick)
        parts.append(drawing.line(x, top + 23, x, bottom))
    for row, (name, figures) in enumerate(zip(names, panel.figures, strict=True)):
        y = top + _HEAD - 25 + row * _ROW
        if figures is None:
            parts.append(drawing.text(left + 4, y + 9, "none", "small"))
            continue
        kind = "own" if name.startswith("flowtally") else "bar" if synced[row] else "open"
        for number, value in enumerate(figures):
            pale = " over" if number else ""
            parts.append(drawing.bar(left, y, scale.at(value), _ROW - 6, kind + pale))
        said = " / ".join(drawing.short(value) for value in figures)
        parts.append(drawing.text(left + scale.at(max(figures)) + 4, y + 9.5, said, "small"))
    return parts


def _size(batch_records: int) -> str:
    return f"{batch_records:,} record{'s' if batch_records > 1 else ''} a batch"


def _of(
    writes: Sequence[Line], names: Sequence[str], size: int, *keys: str
) -> list[tuple[float, ...] | None]:
    return [_figures(best(writes, name, size), *keys) for name in names]


def _of_reads(
    reads: dict[str, Line], names: Sequence[str], key: str
) -> list[tuple[float, ...] | None]:
    return [_figures(reads.get(name, {}), key) for name in names]


def _figures(line: Line, *keys: str) -> tuple[float, ...] | None:
    return tuple(line[key] for key in keys) if keys[0] in line else None
