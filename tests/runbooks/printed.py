"""Whether what a command printed is what the page shows.

`...` stands for any text in a line, and alone in a line for any lines. What is another each time is
not compared: times, ids, ports, processes, and every number but the small ones and the statuses.
"""

from __future__ import annotations

import re

_KEPT = {*map(str, range(10)), "200", "202", "400", "401", "403", "404", "429", "503"}
"""Numbers that say something: how many batches, which status, which exit code."""
_OTHER_EACH_TIME = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?Z?", "TIME"),
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "ID"),
    (r"(?<=_id\":\")[^\"]+", "ID"),
    (r"\b\d+ ms\b", "MS"),
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
    (r"/(tmp|private|var)/[\w./-]*?(?=/(data|disk)\b)", "PATH"),
)


def is_as_shown(printed: str, shown: str) -> bool:
    """The whole of it, but for what is left out."""
    pattern = "".join(_line_pattern(line) for line in _lines(shown))
    return re.fullmatch(pattern, "".join(line + "\n" for line in _lines(printed))) is not None


def _line_pattern(line: str) -> str:
    if line == "...":
        return r"(?:[^\n]*\n)*"
    return "[^\n]*".join(re.escape(part) for part in line.split("...")) + "\n"


def _lines(text: str) -> list[str]:
    for pattern, word in _OTHER_EACH_TIME:
        text = re.sub(pattern, word, text)
    text = re.sub(r"\d+(?:\.\d+)?", lambda found: _number(found.group()), text)
    return [re.sub(r"[ \t]+", " ", line).strip() for line in text.strip("\n").split("\n")]


def _number(text: str) -> str:
    return text if text in _KEPT else "N"
