"""The files of the repository, as git sees them: tracked, or new and not ignored.

Each is listed, read and parsed once, however many rules look at it; a rule is one test, and names
everything that breaks it.
"""

from __future__ import annotations

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "flowtally"


@cache
def repository_files() -> list[Path]:
    """Every file, in order."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout
    names = listed.decode().split("\0")
    return sorted(path for name in names if name and (path := ROOT / name).is_file())


@cache
def text_of(path: Path) -> str:
    """What a file holds; bytes that are no UTF-8 are replaced."""
    return path.read_text(errors="replace")


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    """The syntax tree of a Python file, flat; the module comes first."""
    return list(ast.walk(ast.parse(text_of(path))))


def modules() -> list[Path]:
    """Every module of the product."""
    return [path for path in repository_files() if path.suffix == ".py" and SOURCE in path.parents]


def name_of(path: Path) -> str:
    """The dotted name of a module of the product, without its package."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def outside_code(page: Path) -> str:
    """A page of the documentation without its blocks of code."""
    return re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)
