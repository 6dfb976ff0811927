"""No page without a test that follows it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.runbooks.incident import RUNBOOKS


def test_every_page_is_followed() -> None:
    """By a test of its name, whose fixture fails where it has not followed the page."""
    tested: set[str] = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        for name in re.findall(r"^def test_(\w+)\(\s*incident", path.read_text(), re.MULTILINE):
            tested.add(name.replace("_", "-"))
    assert tested == {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"}
