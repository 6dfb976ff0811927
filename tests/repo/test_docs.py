"""The documentation is in step with the code: everything a user can name is explained, and every
place that is pointed at is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path

import typer

from flowtally.api.openapi import openapi_document
from flowtally.api.problems import kinds
from flowtally.cli.main import app
from flowtally.config import Settings
from flowtally.observe.metrics import Metrics
from tests.repo.files import ROOT, modules, name_of, outside_code, repository_files, text_of

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


@cache
def reference() -> str:
    """All pages of the reference."""
    folder = ROOT / "docs" / "reference"
    return "\n".join(text_of(path) for path in PAGES if path.parent == folder)


@cache
def anchors(page: Path) -> set[str]:
    """The names under which the headings of a page are linked to."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), flags=re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


def leads_nowhere(target: Path, anchor: str) -> bool:
    """Whether a link's page, or the heading that it names there, is missing."""
    return not target.exists() or (bool(anchor) and anchor not in anchors(target))


def test_every_setting_is_explained() -> None:
    headings = set(re.findall(r"^## (\w+)$", reference(), flags=re.MULTILINE))
    assert {one.name for one in fields(Settings)} - headings == set()


def test_every_metric_is_explained() -> None:
    assert [name for name in Metrics().names() if f"`{name}`" not in reference()] == []


def test_every_command_is_explained() -> None:
    missing = [
        command
        for command in commands()
        if not re.search(rf"(^#+ .*|`){command}\b", reference(), flags=re.MULTILINE)
    ]
    assert missing == []


def test_every_route_is_explained() -> None:
    missing = [
        path
        for path in openapi_document()["paths"]
        if not re.search(rf"(`|GET |POST ){re.escape(path)}(?![\w/.])", reference())
    ]
    assert missing == []


def test_every_kind_of_problem_is_explained() -> None:
    assert [slug for slug, _, _ in kinds() if f"`{slug}`" not in reference()] == []


def test_links_lead_somewhere() -> None:
    lost = [
        f"{page.relative_to(ROOT)}: {link}#{anchor}"
        for page in PAGES
        for link, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", outside_code(page))
        if "://" not in link and leads_nowhere(page.parent / link if link else page, anchor)
    ]
    assert lost == []


def test_hints_in_the_code_lead_somewhere() -> None:
    lost = [
        f"{name_of(path)}: {page}#{anchor}"
        for path in modules()
        for page, anchor in re.findall(r"(docs/[\w/-]+\.md)#?([\w-]*)", text_of(path))
        if leads_nowhere(ROOT / page, anchor)
    ]
    assert lost == []
