"""The dashboard asks only for what is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from flowtally.observe.metrics import Metrics
from tests.prometheus import ROOT, alerts_in_rules

_OTHERS = {"up"}
"""Prometheus's own."""


def expressions() -> Iterator[str]:
    """All that the dashboard asks."""
    board: Any = json.loads((ROOT / "deploy" / "grafana" / "flowtally.json").read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in board["panels"]:
        assert panel["targets"], panel["title"]
        yield from (target["expr"] for target in panel["targets"])
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


def metrics_in(expression: str) -> set[str]:
    """The names of metrics that an expression asks for."""
    without_labels = re.sub(r"\{[^}]*\}|\bby \([^)]*\)|\bon \([^)]*\)", "", expression)
    named = re.findall(r"\b(?:flowtally|http|process)_\w+|\bup\b", without_labels)
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in named}


def test_every_metric_of_the_dashboard_is_there() -> None:
    asked = [metrics_in(expression) for expression in expressions()]
    assert all(asked), "a query asks for no metric of ours"
    assert set().union(*asked) - set(Metrics().names()) == set()


def test_every_metric_of_the_alerts_is_there() -> None:
    asked = [metrics_in(rule.split("for:")[0]) for rule in alerts_in_rules().values()]
    assert all(asked)
    assert set().union(*asked) - set(Metrics().names()) - _OTHERS == set()
