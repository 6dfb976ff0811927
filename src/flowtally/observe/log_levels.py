"""Which parts of the service log from which level on: `log_levels`, and what its names stand for.

A name here is a part as the documentation knows it; behind it are the loggers of its modules. A
test holds that every logger of the service belongs to one.
"""

from __future__ import annotations

import difflib
import logging

COMPONENTS: dict[str, tuple[str, ...]] = {
    "access": ("flowtally.access",),
    "aggregator": ("flowtally.stores.hourly",),
    "api": ("flowtally.api",),
    "applier": ("flowtally.stores.duckdb",),
    "clock": ("flowtally.clock",),
    "committer": ("flowtally.ingest.committer",),
    "health": ("flowtally.observe.ledger_check",),
    "journal": (
        "flowtally.ingest.journal",
        "flowtally.ingest.journal_schema",
        "flowtally.stores.journal_keeper",
    ),
    "memory": ("flowtally.stores.memory", "flowtally.stores.memory_taker"),
    "service": ("flowtally.serve",),
    "sql": ("flowtally.stores.sql",),
}
"""Each component, and the loggers that are its own, with all below them."""

OFF = "off"
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    OFF: logging.CRITICAL + 1,
}


def parse_log_levels(text: str) -> dict[str, str]:
    """The level of each component that the text names, such as `journal=debug,access=off`.

    Raises `ValueError` saying what is wrong with it.
    """
    levels: dict[str, str] = {}
    for item in filter(None, (piece.strip() for piece in text.split(","))):
        component, equals, level = (part.strip() for part in item.partition("="))
        if not equals:
            raise ValueError(f"{item[:60]!r} is not COMPONENT=LEVEL")
        _require("component", component, list(COMPONENTS))
        _require("level", level, list(LEVELS))
        if component in levels:
            raise ValueError(f"{component} is named twice")
        levels[component] = level
    return levels


def _require(kind: str, name: str, known: list[str]) -> None:
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(known)}"
        raise ValueError(f"there is no {kind} {name[:60]!r}; {hint}")


def apply_levels(log_level: str, levels: dict[str, str], access_log: bool) -> None:
    """Sets the level of every logger: those of a component to its own, all others to `log_level`.
    Without `access_log`, no request is logged whatever the levels say."""
    logging.getLogger().setLevel(LEVELS[log_level])
    if not access_log:
        levels = {**levels, "access": OFF}
    for component, loggers in COMPONENTS.items():
        own = LEVELS[levels[component]] if component in levels else logging.NOTSET
        for name in loggers:
            logging.getLogger(name).setLevel(own)
