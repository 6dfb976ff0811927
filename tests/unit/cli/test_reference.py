"""The pages that are made from the code are as the code would make them now."""

from __future__ import annotations

import pytest

from tests.unit.cli.reference import FOLDER, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_in_step(name: str) -> None:
    assert (FOLDER / name).read_text() == PAGES[name](), (
        "write it anew: python -m tests.unit.cli.reference"
    )
