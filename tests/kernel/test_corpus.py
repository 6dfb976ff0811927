"""The corpus: one file for each trap, by the verdict that both kernel and twin must come to.

A body that was ever read wrongly is kept there. Each is read by a thread that knows no layout yet,
and again by one that has met those of the whole corpus, in both orders.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.kernel.comparing import accepted_alike
from tests.kernel.native import kernel

CORPUS = Path(__file__).parent / "corpus"
BODIES = sorted(path for path in CORPUS.glob("*/*") if path.suffix in (".json", ".ndjson"))


def is_accepted(path: Path) -> bool:
    return accepted_alike(path.suffix[1:], path.read_bytes())


@pytest.mark.parametrize("path", BODIES, ids=lambda path: path.name)
def test_a_body_read_by_a_thread_that_knows_no_layout(path: Path) -> None:
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(is_accepted, path).result() == (path.parent.name == "accepted")


@pytest.mark.parametrize("turned", [False, True])
def test_all_bodies_read_one_after_the_other(turned: bool) -> None:
    wrong = [
        path.name
        for path in sorted(BODIES, reverse=turned) * 2
        if is_accepted(path) != (path.parent.name == "accepted")
    ]
    assert not wrong


def test_bodies_that_differ_from_a_known_layout_only_here_and_there() -> None:
    """Each record of the corpus after each accepted one, in one array: what was learnt from the
    first is tried on the second."""
    arrays = [path for path in BODIES if path.suffix == ".json"]
    first = [path.read_bytes().strip() for path in arrays if path.parent.name == "accepted"]
    second = [path.read_bytes().strip() for path in arrays]
    read = 0
    for teacher in first[::4]:
        for pupil in second:
            read += accepted_alike("json", teacher[:-1] + b"," + pupil[1:])
    assert read > 100


def test_the_corpus_is_there() -> None:
    verdicts = [path.parent.name for path in BODIES]
    assert min(map(verdicts.count, ("accepted", "refused"))) > 50
    assert kernel.decode_json(b"[]", 1) is not None
