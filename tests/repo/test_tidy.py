"""Style that a program can hold: sizes, headings, names, and what must never be written down."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from tests.repo.files import (
    ROOT,
    modules,
    name_of,
    nodes_of,
    outside_code,
    repository_files,
    text_of,
)

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 65
LINE_MAX = 110
BANNED_NAMES = {"utils", "helpers", "common", "misc", "manager"}
# Written in pieces, so that this file does not hold what it looks for.
SECRETS = re.compile(
    "|".join(
        ["/wo" + "rk/", "/tmp/" + "exp", "/root" + "/", r"py" + r"pi\.org", "crates" + r"\.io"]
    )
)


def texts() -> list[Path]:
    return [path for path in repository_files() if path.suffix not in (".svg", ".png", ".parquet")]


def breaches_of(path: Path) -> Iterator[str]:
    """Where a module is long, or does not say what it is."""
    module, *nodes = nodes_of(path)
    if not ast.get_docstring(cast(ast.Module, module)):
        yield "does not say what it is"
    if len(text_of(path).splitlines()) > MODULE_LINES_MAX:
        yield f"has more than {MODULE_LINES_MAX} lines"
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            if node.end_lineno - node.lineno > FUNCTION_LINES_MAX:
                yield f"{node.name} has more than {FUNCTION_LINES_MAX} lines"
    if path.stem in BANNED_NAMES:
        yield "is named after nothing in particular"


def test_modules_and_functions_are_short_and_say_what_they_are() -> None:
    assert [(name_of(path), what) for path in modules() for what in breaches_of(path)] == []


def test_nothing_of_one_machine_is_written_down() -> None:
    found = {path: SECRETS.search(text_of(path)) for path in texts()}
    assert [(str(path), match.group()) for path, match in found.items() if match] == []


def test_lines_are_short() -> None:
    """Those of tables, links and hashes cannot be broken; ruff holds those of Python."""
    long = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in texts()
        if path.suffix in (".c", ".sh", ".ts") or path.name in ("Makefile", "run")
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if len(line) > LINE_MAX
    ]
    assert long == []


def test_no_work_is_left_as_a_note() -> None:
    pattern = re.compile(r"\b(TO" + r"DO|FIX" + r"ME)\b")
    code = [
        path
        for path in texts()
        if path.suffix in (".py", ".c", ".sh", ".toml", ".yaml") or path.name == "Makefile"
    ]
    assert [str(path) for path in code if pattern.search(text_of(path))] == []


def test_a_page_has_one_title() -> None:
    titles = {
        path: re.findall(r"^# ", outside_code(path), flags=re.MULTILINE)
        for path in repository_files()
        if path.suffix == ".md"
    }
    assert [str(path) for path, found in titles.items() if len(found) != 1] == []
