"""Whether kernel and twin say the same of a body: a difference is an `AssertionError`.

What the kernel accepts, the twin accepts with the same tally, row for row and in the same order.
What it declines, the twin refuses; or it has so many marks that the twin has to look at it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowtally import limits
from flowtally.errors import InvalidInput
from flowtally.model import Account, Tally
from flowtally.wire import blob
from flowtally.wire.json_records import decode_array, decode_lines
from tests.kernel.native import kernel

RECORDS_MAX = 1_000
PLAIN = '{"src_app":"foo","dest_app":"bar","vpc_id":"vpc-0","hour":1,"bytes_rx":300,"bytes_tx":100}'
READERS: dict[str, tuple[Callable[..., Any], Callable[..., tuple[Tally, int]]]] = {
    "json": (kernel.decode_json, decode_array),
    "ndjson": (kernel.decode_ndjson, decode_lines),
}
"""Of each form of a body: the kernel's reader and the twin's."""


def accepted_alike(form: str, body: bytes, records_max: int = RECORDS_MAX) -> bool:
    """Whether the kernel accepts a body; fails where the two differ."""
    of_kernel, of_twin = READERS[form]
    found = of_kernel(body, records_max)
    refusal = None
    try:
        tally, records = of_twin(body, records_max)
    except InvalidInput as error:
        refusal = error
    if refusal is not None:
        assert found is None, f"the kernel accepts what the twin refuses: {refusal}"
        return False
    if found is None:
        assert marks(body) > limits.CLOSE_LOOK_MARKS_PER_RECORD_MAX * records_max
        return False
    assert found.records == records
    assert list(found.rows().items()) == list(tally)
    assert len(found) == len(tally)
    assert Account(*found.account()) == tally.account()
    assert found.hours() == tally.hours()
    assert kernel.encode([found]) == blob.encode_tally(tally)
    return True


def marks(body: bytes) -> int:
    """Commas, opening brackets and backslashes."""
    return sum(map(body.count, (b",", b"[", b"{", b"\\")))
