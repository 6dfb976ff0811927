"""The kernel and its pure-Python twin say the same of any body: made, mutated, cut and enlarged."""

from __future__ import annotations

import itertools
import json
import os
import random
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from flowtally import limits
from tests.kernel.comparing import PLAIN, RECORDS_MAX, accepted_alike
from tests.kernel.making import FRAGMENTS, MEANINGFUL
from tests.kernel.native import kernel

EXAMPLES = int(os.environ.get("FLOWTALLY_KERNEL_EXAMPLES", "200"))

NAMES = st.text(
    st.one_of(
        st.sampled_from('ab:,{}[]"\\-0 é😀\u0085\u00a0\u07ff\x00\x1f\x7f'),
        st.characters(codec="utf-8"),
    ),
    max_size=20,
) | st.sampled_from(["x" * 255, "x" * 256, "é" * 128, "é" * 129, "x" * 257, "src_app", "foo"])
INTEGERS = st.one_of(
    st.sampled_from(
        [-1, 0, 1, limits.HOUR_MAX, limits.HOUR_MAX + 1]
        + [10**digits for digits in range(18)]
        + [limits.RECORD_BYTES_VALUE_MAX, limits.RECORD_BYTES_VALUE_MAX + 1, 2**64, 2**64 + 1]
    ),
    st.integers(0, 2**53 - 1),
)
UNKNOWN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | NAMES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=6,
)
GOOD_NAMES = st.sampled_from(
    ["a", "foo", "eight888", "nine-9999", "é-ü", "a longer name, with more"]
)
GOOD = st.fixed_dictionaries(
    dict.fromkeys(("src_app", "dest_app", "vpc_id"), GOOD_NAMES)
    | {"hour": st.integers(0, 3)}
    | dict.fromkeys(("bytes_rx", "bytes_tx"), st.integers(0, 2**53 - 1)),
    optional={"seen": st.integers() | st.floats(allow_nan=False), "text": NAMES},
)
ANY = st.builds(
    lambda known, unknown: unknown | known,
    st.fixed_dictionaries(
        dict.fromkeys(("src_app", "dest_app", "vpc_id"), NAMES)
        | dict.fromkeys(("hour", "bytes_rx", "bytes_tx"), INTEGERS)
    ),
    st.dictionaries(NAMES, UNKNOWN, max_size=1),
)
RECORDS = st.lists(GOOD, max_size=6) | st.lists(GOOD | ANY, max_size=4)
MUTATIONS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 4), st.sampled_from(FRAGMENTS)), max_size=3
)
SEPARATORS = st.sampled_from([(",", ":"), (", ", ": "), (",\t", " :\r ")])


def mutated(body: bytes, mutations: list[tuple[float, int, bytes]]) -> bytes:
    for where, dropped, fragment in mutations:
        at = int(where * len(body))
        body = body[:at] + fragment + body[at + dropped :]
    return body


@settings(max_examples=EXAMPLES, deadline=None)
@given(RECORDS, MUTATIONS, st.booleans(), SEPARATORS, st.sampled_from([None, 1]))
@example([], [(0.0, 0, b"\xef\xbb\xbf")], False, (",", ":"), None)
def test_any_body(
    records: list[dict[str, Any]],
    mutations: list[tuple[float, int, bytes]],
    escaped: bool,
    separators: tuple[str, str],
    indent: int | None,
) -> None:
    body = json.dumps(records, ensure_ascii=escaped, separators=separators, indent=indent).encode()
    lines = [json.dumps(one, ensure_ascii=escaped, separators=separators) for one in records]
    # Twice, so that the second reading has the layouts that the first one taught.
    for _ in range(2):
        accepted_alike("json", mutated(body, mutations))
        accepted_alike("ndjson", mutated("\n".join(lines).encode(), mutations))
        accepted_alike(
            "ndjson", mutated("".join(f"{line}\n" for line in lines).encode(), mutations)
        )
        accepted_alike("ndjson", mutated(body, mutations))


def test_every_byte_replaced_by_every_byte_that_means_something() -> None:
    """One byte off is where a reader that compares constants would be fooled."""
    second = PLAIN.replace("300", "9007199254740991")
    more = second[:-1] + ',"x":"new","y":-1.5e3}'
    accepted = 0
    for form, text in (
        ("json", f"[{PLAIN},{second}]"),
        ("json", f"[{more},{more}]"),
        ("ndjson", f"{PLAIN}\n{second}\n"),
    ):
        body = text.encode()
        assert accepted_alike(form, body)
        for at, byte in itertools.product(range(len(body)), MEANINGFUL):
            changed = body[:at] + bytes([byte]) + body[at + 1 :]
            accepted += accepted_alike(form, changed)
    assert accepted > 100


def test_cut_anywhere_and_anything_left_out() -> None:
    for form, body in (("json", f"[{PLAIN},{PLAIN}]"), ("ndjson", f"{PLAIN}\n{PLAIN}")):
        for at in range(len(body)):
            accepted_alike(form, body[:at].encode())
            accepted_alike(form, (body[:at] + body[at + 1 :]).encode())
            accepted_alike(form, (body[:at] + body[at] + body[at:]).encode())


def test_many_records_of_many_forms() -> None:
    draw = random.Random(7)
    forms = [
        lambda one: json.dumps(one),
        lambda one: json.dumps(one, separators=(",", ":")),
        lambda one: json.dumps(dict(draw.sample(sorted(one.items()), 6))),
        lambda one: json.dumps(one | {"seen": draw.random(), "tags": ["a", {"b": None}]}),
        lambda one: json.dumps(one | {"src_app": 'é "\n"'[: draw.randrange(5)]}),
    ]
    for _ in range(30):
        texts = [
            draw.choice(forms)(
                {
                    "src_app": f"app-{draw.randrange(9) ** 9}",
                    "dest_app": "é" * draw.randrange(1, 9),
                    "vpc_id": "v",
                    "hour": draw.randrange(3),
                    "bytes_rx": draw.randrange(2**53),
                    "bytes_tx": draw.randrange(10 ** draw.randrange(1, 16)),
                }
            )
            for _ in range(draw.randrange(60))
        ]
        accepted_alike("json", f"[{','.join(texts)}]".encode())
        accepted_alike("ndjson", "\n".join(texts).encode())


def test_limits() -> None:
    for records_max in (1, 2, 3):
        assert accepted_alike("json", f"[{PLAIN},{PLAIN}]".encode(), records_max) == (
            records_max > 1
        )
        accepted_alike("ndjson", f"{PLAIN}\n{PLAIN}".encode(), records_max)
    for depth in (15, 16, 17, 18, 100_000):
        for inner in ("[" * depth + "]" * depth, '{"a":' * depth + "0" + "}" * depth):
            body = f'[{PLAIN[:-1]},"x":{inner}}}]'.encode()
            assert accepted_alike("json", body, 100_000) == (depth <= limits.UNKNOWN_DEPTH_MAX)
    unbounded = "[" + "0," * 1_000 + "0]"
    for records_max in (50, 62, 63, 64, 100):
        accepted_alike("json", f'[{PLAIN[:-1]},"x":{unbounded}}}]'.encode(), records_max)


def test_sums_do_not_wrap() -> None:
    largest = PLAIN.replace("300", str(limits.RECORD_BYTES_VALUE_MAX))
    body = f"[{','.join([largest] * 3_000)}]".encode()
    assert accepted_alike("json", body, 3_000)
    found = kernel.decode_json(body, 3_000)
    assert found is not None
    assert found.account()[2] > 2**64
    assert RECORDS_MAX < 3_000
    assert kernel.decode_json(body, RECORDS_MAX) is None
