"""The files of the repository, as git sees them: tracked, or new and not ignored."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "flowtally"


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


def modules() -> list[Path]:
    """Every module of the product."""
    return [path for path in repository_files() if path.suffix == ".py" and SOURCE in path.parents]


def name_of(path: Path) -> str:
    """The dotted name of a module of the product, without its package."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")
