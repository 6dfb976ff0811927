"""DESIGN's list of bad input: each gets its 4xx, changes nothing, and is answered soon."""

from __future__ import annotations

import gzip
import json
import time
import zlib

import pytest
import zstandard

from tests.http.service import Service, assert_problem, encoded, record

ANSWER_S_MAX = 15.0
"""A second on a machine of today; generous, because a slow machine is not a fault."""


def with_field(name: str, text: str) -> bytes:
    """A record, one field of it replaced by JSON as it stands here."""
    fields = {key: json.dumps(value) for key, value in record().items()}
    fields[name] = text
    return ("[{" + ",".join(f'"{key}":{value}' for key, value in fields.items()) + "}]").encode()


def without_field(name: str) -> bytes:
    return encoded([{key: value for key, value in record().items() if key != name}])


def with_repeated_field(name: str, text: str) -> bytes:
    return encoded([record()])[:-2] + f',"{name}":{text}}}]'.encode()


BAD_VALUES = [
    *[("bytes_rx", text) for text in ("1.0", '"1"', "true", "null", "-1", "1e3", "[]", "{}")],
    ("bytes_rx", str(2**53)),
    ("bytes_rx", str(2**64)),
    ("bytes_tx", "9" * 100_000),
    ("bytes_tx", "1e999"),
    ("hour", "-1"),
    ("hour", str(2**31)),
    ("hour", "1.5"),
    ("hour", '"1"'),
    ("src_app", '""'),
    ("src_app", "7"),
    ("src_app", "null"),
    ("src_app", json.dumps("x" * 257)),
    ("dest_app", json.dumps("é" * 129)),
    ("dest_app", r'"a\u0000b"'),
    ("vpc_id", r'"a\u001fb"'),
    ("vpc_id", r'"a\u007fb"'),
    ("vpc_id", r'"a\u0085b"'),
]


@pytest.mark.parametrize(("name", "text"), BAD_VALUES, ids=lambda text: text[:20])
def test_a_bad_value_is_named(service: Service, name: str, text: str) -> None:
    assert_problem(
        service.post(with_field(name, text)), 400, "invalid-records", pointers=[f"/0/{name}"]
    )
    assert service.counted() == (0, 0, 1)


@pytest.mark.parametrize("name", list(record()))
def test_a_missing_field_is_named(service: Service, name: str) -> None:
    reply = service.post(without_field(name))
    assert_problem(reply, 400, "invalid-records", pointers=[f"/0/{name}"])


@pytest.mark.parametrize("name", list(record()))
def test_a_repeated_field_is_named(service: Service, name: str) -> None:
    reply = service.post(with_repeated_field(name, json.dumps(record()[name])))
    assert_problem(reply, 400, "invalid-records", pointers=[f"/0/{name}"])


def test_one_bad_record_refuses_the_batch_and_every_bad_one_is_named(service: Service) -> None:
    records = [record(hour=-1 if number % 2 else 1) for number in range(500)]
    reply = service.post(encoded(records))
    pointers = [f"/{number}/hour" for number in range(1, 200, 2)]
    assert_problem(reply, 400, "invalid-records", pointers=pointers)
    assert reply.json()["errors_total"] == 250
    assert service.sums(1) == []


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b" ", id="blank"),
        pytest.param(b"[", id="bracket"),
        pytest.param(encoded([record()])[:-1], id="truncated"),
        pytest.param(encoded([record()])[:40], id="truncated-in-record"),
        pytest.param(encoded([record()]) + b"x", id="trailing-text"),
        pytest.param(encoded([record()]) * 2, id="two-arrays"),
        pytest.param(encoded([record()])[:-1] + b",]", id="trailing-comma"),
        pytest.param(b"{}", id="object"),
        pytest.param(b"null", id="null"),
        pytest.param(b"7", id="number"),
        pytest.param(b'"text"', id="text"),
        pytest.param(b"NaN", id="nan"),
        pytest.param(with_field("bytes_rx", "NaN"), id="nan-value"),
        pytest.param(with_field("bytes_rx", "Infinity"), id="infinity"),
        pytest.param(with_field("bytes_rx", "01"), id="leading-zero"),
        pytest.param(with_field("bytes_rx", "+1"), id="plus"),
        pytest.param(b"[" * 100_000, id="deep-open"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="deep"),
        pytest.param(b'[{"a":' * 50_000, id="deep-objects"),
        pytest.param(b"\xef\xbb\xbf" + encoded([record()]), id="bom"),
        pytest.param(encoded([record()]).decode().encode("utf-16"), id="utf-16"),
        pytest.param(with_field("src_app", '"a"').replace(b'"a"', b'"\xff"'), id="invalid-utf-8"),
        pytest.param(
            with_field("src_app", '"a"').replace(b'"a"', b'"\xed\xa0\x80"'), id="utf-8-surrogate"
        ),
        pytest.param(with_field("src_app", r'"\ud800"'), id="lone-surrogate"),
        pytest.param(with_field("src_app", '"a"').replace(b'"a"', b'"\x00"'), id="nul"),
        pytest.param(b"\x00" * 100, id="nuls"),
        pytest.param(with_field("src_app", '"' + "x" * 10 * 2**20 + '"'), id="10-MiB-string"),
        pytest.param(with_field("unknown", "[" * 17 + "]" * 17), id="unknown-too-deep"),
        pytest.param(with_field("unknown", "tru"), id="unknown-invalid"),
        pytest.param(b"[1,2]", id="numbers"),
        pytest.param(b"[[]]", id="arrays"),
        pytest.param(b"[null]", id="nulls"),
    ],
)
def test_a_bad_body(service: Service, body: bytes) -> None:
    began = time.monotonic()
    reply = service.post(body)
    assert time.monotonic() - began < ANSWER_S_MAX
    assert reply.status == 400, reply
    assert reply.header("content-type") == "application/problem+json"
    assert len(reply.body) < 20_000
    assert service.counted() == (0, 0, 1)


def test_a_single_object_is_refused_with_a_hint(service: Service) -> None:
    assert_problem(service.post(json.dumps(record()).encode()), 400, "invalid-input", "array")


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        pytest.param("gzip", b"not gzip", id="not-gzip"),
        pytest.param("gzip", gzip.compress(encoded([record()]))[:-9], id="gzip-cut-off"),
        pytest.param("gzip", gzip.compress(b"[]") + b"x", id="gzip-trailing"),
        pytest.param("gzip", b"", id="gzip-empty"),
        pytest.param("zstd", b"not zstd", id="not-zstd"),
        pytest.param("zstd", zstandard.compress(encoded([record()]))[:-5], id="zstd-cut-off"),
        pytest.param("zstd", gzip.compress(b"[]"), id="gzip-as-zstd"),
        pytest.param("gzip", zlib.compress(b"[]"), id="deflate-as-gzip"),
        pytest.param(None, gzip.compress(b"[]"), id="gzip-untold"),
    ],
)
def test_a_bad_coding(service: Service, coding: str | None, body: bytes) -> None:
    headers = {} if coding is None else {"Content-Encoding": coding}
    reply = service.post(body, headers)
    assert reply.status == 400, reply
    assert service.counted() == (0, 0, 1)


def zeros(coding: str, size: int) -> bytes:
    if coding == "gzip":
        compressor = zlib.compressobj(9, wbits=31)
        piece = b"[" + b" " * (2**20 - 1)
        return b"".join(compressor.compress(piece) for _ in range(size >> 20)) + compressor.flush()
    return zstandard.ZstdCompressor().compress(b" " * size)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_bomb_is_too_large(service: Service, coding: str) -> None:
    began = time.monotonic()
    reply = service.post(zeros(coding, 64 << 20), {"Content-Encoding": coding})
    assert_problem(reply, 413, "too-large")
    assert time.monotonic() - began < ANSWER_S_MAX


def test_names_are_kept_byte_by_byte(service: Service) -> None:
    names = [
        "../../etc/passwd",
        "<img src=x onerror=alert(1)>",
        "=1+1",
        "a,b",
        'a"b',
        "a\\b",
        "a|b",
        "a/b",
        " a ",
        "\u00e9",
        "e\u0301",
        "x" * 256,
        "\u202eevil",
        "😀",
    ]
    assert service.post(encoded(record(src=name) for name in names)).status == 200
    rows = service.sums(1)
    assert [row["src_app"] for row in rows] == sorted(names, key=str.encode)


def test_keys_never_collide_by_concatenation(service: Service) -> None:
    parts = [
        ("ab", "c", "d"),
        ("a", "bc", "d"),
        ("a", "b", "cd"),
        ("a|b", "c", "d"),
        ("a", "b|c", "d"),
    ]
    assert service.post(encoded(record(*three) for three in parts)).json()["flows"] == 5


def test_unknown_fields_are_ignored(service: Service) -> None:
    body = encoded([{**record(), "protocol": "tcp", "more": {"a": [1, {"b": None}]}}])
    assert service.post(body).status == 200
    assert list(service.sums(1)[0]) == [
        "src_app",
        "dest_app",
        "vpc_id",
        "hour",
        "bytes_rx",
        "bytes_tx",
    ]


@pytest.mark.parametrize("hour", [0, 2**31 - 1])
@pytest.mark.parametrize("count", [0, 2**53 - 1])
def test_the_largest_and_smallest_values(service: Service, hour: int, count: int) -> None:
    assert service.post(encoded([record(hour=hour, rx=count, tx=count)])).status == 200
    assert service.sums(hour)[0]["bytes_rx"] == count


def test_sums_do_not_wrap(service: Service) -> None:
    for _ in range(3):
        assert service.post(encoded([record(rx=2**53 - 1)] * 1500)).status == 200
    assert service.sums(1)[0]["bytes_rx"] == 4500 * (2**53 - 1) > 2**63
