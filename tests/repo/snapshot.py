"""The OpenAPI document as it is committed: the working one, and one for each release.

`python -m tests.repo.snapshot` writes the working one; with `--release`, that of the release too,
which is never written again: it is what clients of that release were promised.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from flowtally import __version__
from flowtally.api.openapi import openapi_document
from tests.repo.files import ROOT

FOLDER = ROOT / "docs" / "reference"
WORKING = FOLDER / "openapi.json"


def text_of_document() -> str:
    """What `make openapi` writes."""
    return json.dumps(openapi_document(), indent=2, ensure_ascii=False) + "\n"


def last_release() -> dict[str, Any]:
    """The document of the newest release."""
    releases = FOLDER.glob("openapi-*.json")
    newest = max(releases, key=lambda path: tuple(map(int, path.stem[8:].split("."))))
    document: dict[str, Any] = json.loads(newest.read_text())
    return document


def main(arguments: list[str]) -> None:
    """Writes what is asked for."""
    written: list[Path] = [WORKING]
    if arguments == ["--release"]:
        written.append(FOLDER / f"openapi-{__version__}.json")
        if written[1].exists():
            sys.exit(f"{written[1].name} is there already: what was released does not change")
    elif arguments:
        sys.exit("usage: python -m tests.repo.snapshot [--release]")
    for path in written:
        path.write_text(text_of_document())


if __name__ == "__main__":
    main(sys.argv[1:])
