"""No page without a test that follows it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.runbooks.incident import RUNBOOKS

_NOT_YET = {
    "memory-growing",
    "slow-reads",
    "slow-writes",
    "upgrade",
}
"""Pages without commands: who gives one commands takes it from here."""


def test_every_page_is_followed() -> None:
    """By a test of its name, whose fixture fails where it has not followed the page."""
    tested: set[str] = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        for name in re.findall(r"^def test_(\w+)\(\s*incident", path.read_text(), re.MULTILINE):
            tested.add(name.replace("_", "-"))
    assert not tested & _NOT_YET
    assert tested | _NOT_YET == {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"}


def test_a_page_that_is_not_followed_shows_no_commands() -> None:
    """What no test runs may not look as if it were."""
    for page in _NOT_YET:
        assert "```" not in (RUNBOOKS / f"{page}.md").read_text(), page
