"""Fuzzes kernel and twin together with atheris (libFuzzer for Python), by the branches of the twin.

    python -m tests.kernel.fuzzing -max_total_time=60 FOLDER

Arguments are libFuzzer's; FOLDER keeps what was found, and starts with the corpus. An input begins
with a byte that chooses its form. A difference ends the run with its `AssertionError`.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

atheris: Any = importlib.import_module("atheris")
with atheris.instrument_imports(include=["flowtally.wire", "msgspec", "json"]):
    from tests.kernel.comparing import accepted_alike

CORPUS = Path(__file__).parent / "corpus"
FORMS = ("json", "ndjson")
RECORDS_MAX = 100


def read_one(data: bytes) -> None:
    """Reads one input with both."""
    if data:
        accepted_alike(FORMS[data[0] % 2], data[1:], RECORDS_MAX)


def main() -> None:
    """Fuzzes until libFuzzer has enough."""
    folders = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")]
    for folder in folders[:1]:
        folder.mkdir(parents=True, exist_ok=True)
        for path in CORPUS.glob("*/*json"):
            form = FORMS.index(path.suffix[1:])
            (folder / path.name).write_bytes(bytes([form]) + path.read_bytes())
    atheris.Setup(sys.argv, read_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
