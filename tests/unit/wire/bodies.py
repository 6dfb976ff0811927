"""Records and bodies for the tests of `wire`, and the oracle that says what they sum to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from flowtally.model import Tally


def record(**changes: object) -> dict[str, object]:
    """A valid record, with some fields changed."""
    plain: dict[str, object] = {
        "src_app": "foo",
        "dest_app": "bar",
        "vpc_id": "vpc-0",
        "hour": 1,
        "bytes_rx": 300,
        "bytes_tx": 100,
    }
    return plain | changes


def text(**changes: str) -> str:
    """A valid record as JSON, with the text of some values changed."""
    values = {field: json.dumps(value) for field, value in record().items()} | changes
    return "{" + ",".join(f'"{field}":{value}' for field, value in values.items()) + "}"


def array(records: Iterable[Mapping[str, object]], escaped: bool = True) -> bytes:
    """A JSON body."""
    return json.dumps(list(records), ensure_ascii=escaped).encode()


def lines(records: Iterable[Mapping[str, object]], escaped: bool = True) -> bytes:
    """An NDJSON body."""
    return b"".join(json.dumps(one, ensure_ascii=escaped).encode() + b"\n" for one in records)


def expected(records: Iterable[Mapping[str, object]]) -> Tally:
    """The oracle: a dict of Python's integers."""
    rows: dict[tuple[str, str, str, int], list[int]] = {}
    for one in records:
        src_app, dest_app, vpc_id = (str(one[name]) for name in ("src_app", "dest_app", "vpc_id"))
        flow = (src_app, dest_app, vpc_id, int(str(one["hour"])))
        rx, tx, count = rows.get(flow, [0, 0, 0])
        rows[flow] = [rx + int(str(one["bytes_rx"])), tx + int(str(one["bytes_tx"])), count + 1]
    return Tally(rows)
