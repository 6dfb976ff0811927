"""The lock files: complete, hashed, and silent about where packages come from."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from tests.repo.files import ROOT

LOCKS = sorted(ROOT.glob("requirements*.lock"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def names_of(requirements: list[Any]) -> set[str]:
    """The packages of a list; a group that it includes is checked as its own."""
    return {re.split(r"[<>=\[]", one)[0] for one in requirements if isinstance(one, str)}


def locked(lock: str) -> set[str]:
    text = (ROOT / lock).read_text()
    return set(re.findall(r"^([a-z0-9-]+)==", text, flags=re.MULTILINE))


def test_what_runs_is_locked() -> None:
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = chain(PROJECT["project"]["dependencies"], *extras)
    assert names_of([*wanted, *PROJECT["build-system"]["requires"]]) <= locked("requirements.lock")


def test_what_tests_is_locked() -> None:
    wanted = [*chain(*PROJECT["dependency-groups"].values())]
    assert names_of(wanted) <= locked("requirements-dev.lock")


def test_both_locks_agree() -> None:
    pins = [
        dict(re.findall(r"^([a-z0-9-]+)==(\S+)", path.read_text(), flags=re.MULTILINE))
        for path in LOCKS
    ]
    for name in set().union(*pins):
        assert len({pin[name] for pin in pins if name in pin}) == 1, name


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_every_pin_has_hashes_and_no_address(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    assert "--index" not in text
    for pin in re.split(r"\n(?=\S)", text.strip()):
        assert re.match(r"[a-z0-9-]+==\S+", pin), f"{path.name}: {pin[:60]}"
        assert "--hash=sha256:" in pin, f"{path.name}: {pin[:60]}"
