"""Style that a program can hold: sizes, headings, names, and what must never be written down."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.repo.files import ROOT, modules, name_of, repository_files

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


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_modules_and_functions_are_short_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), f"{path.name} does not say what it is"
    assert len(text.splitlines()) <= MODULE_LINES_MAX
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno <= FUNCTION_LINES_MAX, node.name
    assert path.stem not in BANNED_NAMES


def test_nothing_of_one_machine_is_written_down() -> None:
    for path in texts():
        found = SECRETS.search(path.read_text(errors="replace"))
        assert found is None, f"{path.relative_to(ROOT)}: {found and found.group()}"


def test_lines_are_short() -> None:
    """Those of tables, links and hashes cannot be broken; ruff holds those of Python."""
    for path in texts():
        if path.suffix in (".c", ".sh", ".ts") or path.name in ("Makefile", "run"):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                assert len(line) <= LINE_MAX, f"{path.relative_to(ROOT)}:{number}"


def test_no_work_is_left_as_a_note() -> None:
    pattern = re.compile(r"\b(TO" + r"DO|FIX" + r"ME)\b")
    for path in texts():
        if path.suffix in (".py", ".c", ".sh", ".toml", ".yaml") or path.name == "Makefile":
            assert not pattern.search(path.read_text()), path.relative_to(ROOT)


@pytest.mark.parametrize(
    "path",
    [path for path in repository_files() if path.suffix == ".md"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_page_has_one_title(path: Path) -> None:
    outside_code = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    assert len(re.findall(r"^# ", outside_code, flags=re.MULTILINE)) == 1
