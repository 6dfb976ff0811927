"""The results of a run, kept part by part: what was measured is not lost when the run is cut off.

A part is a line in a list, such as one of `writes`, and is told from the others by what was
measured (who, how many records a batch, ...). A run that is resumed leaves out the parts that are
there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class Results:
    """What was found so far, and the file that holds it."""

    def __init__(self, path: Path, found: Line | None = None) -> None:
        self.path = path
        self.found: Line = found or {}

    def keep(self) -> None:
        """Writes the file. A run that is killed meanwhile leaves the file before or after."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".part")
        beside.write_text(json.dumps(self.found, indent=2) + "\n")
        beside.replace(self.path)

    def add(
        self,
        kind: str,
        what: Mapping[str, Any],
        measure: Callable[[], Mapping[str, Any]],
        say: Callable[[str], None],
        faults: tuple[type[Exception], ...] = (),
    ) -> Line:
        """Measures a part and keeps it, unless it is there. Of the faults that are given the run
        goes on; the part says that it failed, and is tried again when the run is resumed."""
        lines: list[Line] = self.found.setdefault(kind, [])
        there = [line for line in lines if what.items() <= line.items()]
        if there and "failed" not in there[0]:
            return there[0]
        named = ", ".join(f"{name} {value}" for name, value in what.items())
        say(f"{kind}: {named}")
        try:
            line = {**what, **measure()}
        except faults as error:
            say(f"{kind}: {named}: failed: {error}")
            line = {**what, "failed": str(error)}
        lines[:] = [one for one in lines if one not in there] + [line]
        self.keep()
        return line


def best(writes: Sequence[Line], who: str, batch_records: int) -> Line:
    """Of what one was given in batches of one size: where it did best, or a failure if none worked.
    Nothing if it was not tried."""
    tried = [one for one in writes if one["who"] == who and one["batch_records"] == batch_records]
    return max(tried, key=lambda one: float(one.get("records_per_s", 0.0)), default={})


def sizes(writes: Iterable[Line]) -> list[int]:
    """The sizes of batches that were tried."""
    return sorted({line["batch_records"] for line in writes})
