"""The runbooks: all of one shape, all listed, each alert that they name among the rules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.repo.files import ROOT

FOLDER = ROOT / "docs" / "runbooks"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.name != "README.md")
_HEADINGS = ["How it shows", "What to check", "What to do", "It is over when"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_runbook_has_its_shape(page: Path) -> None:
    text = page.read_text()
    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == _HEADINGS
    shows = text.split("## ")[1]
    assert all(f"- {what}" in shows for what in ("Alert: ", "Health line: ", "Log line: "))


def test_every_runbook_is_listed() -> None:
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", (FOLDER / "README.md").read_text()))
    assert listed == {page.name for page in PAGES}


def test_every_alert_that_a_runbook_names_is_there() -> None:
    rules = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text()
    named = {name for page in PAGES for name in re.findall(r"`(Flowtally\w+)`", page.read_text())}
    assert named == set(re.findall(r"- alert: (\w+)", rules))
