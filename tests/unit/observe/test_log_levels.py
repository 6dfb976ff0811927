"""Which part logs from which level on: every logger belongs to a part, and names are checked."""

from __future__ import annotations

import ast
import re

import pytest

from flowtally.observe.log_levels import COMPONENTS, parse_log_levels
from tests.repo.files import ROOT, modules, name_of, nodes_of, text_of


def loggers() -> dict[str, str]:
    """The name of each logger of the service, by the module that it is in."""
    found: dict[str, str] = {}
    for path in modules():
        for node in nodes_of(path):
            if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)):
                continue
            call = ast.unparse(node.value.func)
            if call == "logging.getLogger":
                [name] = node.value.args
                module = f"flowtally.{name_of(path)}"
                found[module] = str(name.value) if isinstance(name, ast.Constant) else module
    return found


def test_every_logger_belongs_to_one_component() -> None:
    assert loggers()["flowtally.api.access_log"] == "flowtally.access"
    owners = {
        logger: [
            component
            for component, names in COMPONENTS.items()
            if any(logger == name or logger.startswith(f"{name}.") for name in names)
        ]
        for logger in loggers().values()
    }
    assert {logger: found for logger, found in owners.items() if len(found) != 1} == {}
    assert {component for [component] in owners.values()} == set(COMPONENTS)


def test_every_component_is_explained() -> None:
    page = text_of(ROOT / "docs" / "guides" / "logging.md")
    assert set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)) == set(COMPONENTS)


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("", {}),
        ("journal=debug", {"journal": "debug"}),
        (" journal = debug , access=off,", {"journal": "debug", "access": "off"}),
    ],
)
def test_what_can_be_used(text: str, levels: dict[str, str]) -> None:
    assert parse_log_levels(text) == levels


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("jornal=debug", "there is no component 'jornal'; did you mean journal?"),
        ("journal=debgu", "there is no level 'debgu'; did you mean debug?"),
        ("x=debug", "there is no component 'x'; there are access, aggregator, api,"),
        ("journal=1", "there is no level '1'; there are debug, info, warning, error, off"),
        ("journal", "'journal' is not COMPONENT=LEVEL"),
        ("journal=debug,journal=info", "journal is named twice"),
        ("journal=debug=info", "there is no level 'debug=info'"),
        ("journal=", "there is no level ''"),
    ],
)
def test_what_cannot(text: str, told: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_log_levels(text)
    assert str(caught.value).startswith(told)
