"""The parameters of a query string, read as strictly as a body.

FastAPI's own validation would take `+1`, ` 1` and `1_0` for integers, and the first of two values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote_plus

from flowtally import limits
from flowtally.errors import InvalidInput

_INTEGER = re.compile(r"0|[1-9][0-9]{0,9}")


def parameters_of(query: bytes, known: Sequence[str]) -> dict[str, str]:
    """The parameters of a query, each given once. Raises `InvalidInput` naming the one at fault."""
    found: dict[str, str] = {}
    if not query:
        return found
    for part in query.decode("latin-1").split("&"):
        name, _, value = part.partition("=")
        name = unquote_plus(name)
        if name not in known:
            names = f"there are only {', '.join(known)}" if known else "this path takes none"
            raise InvalidInput(f"the parameter {name[:40]!r} is not known; {names}")
        if name in found:
            raise InvalidInput(f"the parameter {name} is repeated")
        found[name] = unquote_plus(value)
    return found


def hour_of(parameters: Mapping[str, str]) -> int:
    """The parameter `hour`: an integer as JSON writes it. Raises `InvalidInput`."""
    text = parameters.get("hour")
    if text is None:
        raise InvalidInput("the parameter hour is missing, as in /v1/flows?hour=1")
    if _INTEGER.fullmatch(text) is None or int(text) > limits.HOUR_MAX:
        raise InvalidInput(
            f"hour must be an integer from 0 to {limits.HOUR_MAX}, in plain digits,"
            f" not {text[:40]!r}"
        )
    return int(text)
