"""The documentation is in step with the code: everything a user can name is explained, and every
place that is pointed at is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import typer

from flowtally.api.openapi import openapi_document
from flowtally.api.problems import kinds
from flowtally.cli.main import app
from flowtally.config import Settings
from flowtally.observe.metrics import Metrics
from tests.repo.files import ROOT, modules, name_of, repository_files

PAGES = [path for path in repository_files() if path.suffix == ".md"]


def commands() -> Iterator[str]:
    """Every command, as it is typed."""
    waiting = [("flowtally", typer.main.get_command(app))]
    while waiting:
        name, command = waiting.pop()
        inner = getattr(command, "commands", {})
        waiting += [(f"{name} {part}", one) for part, one in inner.items()]
        if not inner:
            yield name


def reference() -> str:
    """All pages of the reference."""
    folder = ROOT / "docs" / "reference"
    return "\n".join(path.read_text() for path in PAGES if path.parent == folder)


def anchors(page: Path) -> set[str]:
    """The names under which the headings of a page are linked to."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


def assert_leads_somewhere(target: Path, anchor: str, whence: str) -> None:
    assert target.exists(), f"{whence} points at {target.name}, which is not there"
    if anchor:
        assert anchor in anchors(target), f"{whence} points at #{anchor} of {target.name}"


@pytest.mark.parametrize("name", [one.name for one in fields(Settings)])
def test_every_setting_is_explained(name: str) -> None:
    assert re.search(rf"^## {name}$", reference(), flags=re.MULTILINE)


@pytest.mark.parametrize("name", Metrics().names())
def test_every_metric_is_explained(name: str) -> None:
    assert f"`{name}`" in reference()


@pytest.mark.parametrize("command", sorted(commands()))
def test_every_command_is_explained(command: str) -> None:
    assert re.search(rf"(^#+ .*|`){command}\b", reference(), flags=re.MULTILINE)


@pytest.mark.parametrize("path", openapi_document()["paths"])
def test_every_route_is_explained(path: str) -> None:
    assert re.search(rf"(`|GET |POST ){re.escape(path)}(?![\w/.])", reference())


@pytest.mark.parametrize("slug", [slug for slug, _, _ in kinds()])
def test_every_kind_of_problem_is_explained(slug: str) -> None:
    assert f"`{slug}`" in reference()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", text):
        if "://" not in link:
            target = page.parent / link if link else page
            assert_leads_somewhere(target, anchor, page.name)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_hints_in_the_code_lead_somewhere(path: Path) -> None:
    for page, anchor in re.findall(r"(docs/[\w/-]+\.md)#?([\w-]*)", path.read_text()):
        assert_leads_somewhere(ROOT / page, anchor, path.name)
