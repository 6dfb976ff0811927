"""The guide to backups, word for word: each command is run, and its output is what stands there.

Times, arrival hours and sizes of files are others each time; nothing else is.
"""

from __future__ import annotations

import re

from tests.docs.test_quickstart import ROOT, Terminals, steps, terminals

__all__ = ["terminals"]
_OTHER_EACH_TIME = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?Z?", "TIME"),
    (r"\b\d+ bytes\b", "SIZE"),
    (r"\b\d{6}(?=  (accepted|summed) )", "HOUR"),
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
)


def _told(text: str) -> str:
    for pattern, word in _OTHER_EACH_TIME:
        text = re.sub(pattern, word, text)
    return text.removesuffix("\n")


def test_the_guide_to_backups(terminals: Terminals) -> None:
    guide = (ROOT / "docs/guides/backup.md").read_text()
    typed = 0
    for command, printed in steps(guide):
        assert _told(terminals.type(command)) == _told(printed), command
        typed += 1
    assert typed > 7
