"""The one entrance for every format."""

from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pytest

from flowtally.errors import TooLarge
from flowtally.limits import BodyLimits
from flowtally.wire.decode import decode_body
from flowtally.wire.media import BodyFormat
from tests.unit.wire.bodies import array, expected, lines, record

RECORDS = [record(), record(hour=2), record()]


def arrow() -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist(RECORDS)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


BODIES = {
    BodyFormat.JSON: array(RECORDS),
    BodyFormat.NDJSON: lines(RECORDS),
    BodyFormat.ARROW: arrow(),
}


@pytest.mark.parametrize("form", BodyFormat)
def test_every_format_gives_the_same_tally(form: BodyFormat) -> None:
    decoded = decode_body(BODIES[form], form, BodyLimits())
    assert (decoded.tally, decoded.records) == (expected(RECORDS), 3)
    assert len(decoded.fingerprint) == 16
    with pytest.raises(TooLarge):
        decode_body(BODIES[form], form, BodyLimits(records_max=2))


def test_a_fingerprint_is_of_the_bytes_and_their_format() -> None:
    def fingerprint(body: bytes, form: BodyFormat) -> bytes:
        return decode_body(body, form, BodyLimits()).fingerprint

    one = array([record()])
    assert fingerprint(one, BodyFormat.JSON) == fingerprint(bytes(one), BodyFormat.JSON)
    assert fingerprint(one, BodyFormat.JSON) != fingerprint(one + b" ", BodyFormat.JSON)
    body = one[1:-1]
    assert fingerprint(body, BodyFormat.NDJSON) != fingerprint(one, BodyFormat.JSON)
    assert fingerprint(b"[]", BodyFormat.JSON).hex() == "9772abc14fe0fc4e6c02080ec2be49d2"


def test_arrow_is_not_loaded_for_json() -> None:
    """Loading it takes longer than all else together, and senders do without."""
    code = "import sys, flowtally.wire.decode, flowtally.wire.media, flowtally.wire.fields"
    loaded = subprocess.run(
        [sys.executable, "-c", f"{code}; print('pyarrow' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout == "False\n"
