"""Content codings: what is undone, what is refused, and that no bomb goes off."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from flowtally import limits
from flowtally.errors import InvalidInput, TooLarge, UnsupportedMedia
from flowtally.wire.coding import answer_coding, body_decoder, encode_content

BODY = b'{"src_app":"foo"}' * 100
MIB = limits.MIB


def zstd(body: bytes, level: int = 3) -> bytes:
    return zstandard.ZstdCompressor(level=level).compress(body)


def decoded(
    coding: str | None, body: bytes, bytes_max: int = MIB, chunk_bytes: int = 1 << 16
) -> bytes:
    """Feeds a body in chunks; checks that what comes out never passes the bound."""
    decoder = body_decoder(coding, bytes_max)
    parts: list[bytes] = []
    for at in range(0, len(body), chunk_bytes):
        parts.append(decoder.feed(body[at : at + chunk_bytes]))
        assert sum(map(len, parts)) <= bytes_max
    parts.append(decoder.finish())
    return b"".join(parts)


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1 << 16])
@pytest.mark.parametrize(
    ("coding", "body"),
    [
        pytest.param(None, BODY, id="none"),
        pytest.param("", BODY, id="empty"),
        pytest.param("identity", BODY, id="identity"),
        pytest.param("gzip", gzip.compress(BODY), id="gzip"),
        pytest.param(" GZip ", gzip.compress(BODY), id="spelling"),
        pytest.param("x-gzip", gzip.compress(BODY), id="x-gzip"),
        pytest.param("gzip", gzip.compress(BODY[:9]) + gzip.compress(BODY[9:]), id="two members"),
        pytest.param("gzip", gzip.compress(BODY) + gzip.compress(b""), id="an empty member"),
        pytest.param("zstd", zstd(BODY), id="zstd"),
        pytest.param("zstd", zstd(BODY[:9]) + zstd(BODY[9:]), id="two frames"),
        pytest.param("zstd", zstd(b"") + zstd(BODY), id="an empty frame"),
        pytest.param(
            "zstd",
            zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compress(BODY),
            id="checksum, no size",
        ),
    ],
)
def test_bodies_are_decoded(coding: str | None, body: bytes, chunk_bytes: int) -> None:
    assert decoded(coding, body, chunk_bytes=chunk_bytes) == BODY


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=400), min_size=1, max_size=4), st.integers(1, 200))
def test_any_bytes_in_any_chunks(parts: list[bytes], chunk_bytes: int) -> None:
    body = b"".join(parts)
    for coding, encoded in (
        ("gzip", b"".join(map(gzip.compress, parts))),
        ("zstd", b"".join(map(zstd, parts))),
    ):
        assert decoded(coding, encoded, chunk_bytes=chunk_bytes) == body


def flipped(body: bytes, at: int) -> bytes:
    return body[:at] + bytes([body[at] ^ 0x55]) + body[at + 1 :]


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        pytest.param("gzip", b"", id="gzip, empty"),
        pytest.param("gzip", BODY, id="gzip, not encoded"),
        pytest.param("gzip", gzip.compress(BODY)[:-1], id="gzip, cut off"),
        pytest.param("gzip", gzip.compress(BODY)[:5], id="gzip, cut off in the header"),
        pytest.param("gzip", gzip.compress(BODY) + b"x", id="gzip, trailing text"),
        pytest.param("gzip", gzip.compress(BODY) + b"\0" * 8, id="gzip, trailing zeros"),
        pytest.param(
            "gzip", gzip.compress(BODY) + gzip.compress(b"")[:9], id="gzip, half a member"
        ),
        pytest.param("gzip", flipped(gzip.compress(BODY), -5), id="gzip, wrong checksum"),
        pytest.param("gzip", zlib.compress(BODY), id="deflate sent as gzip"),
        pytest.param("zstd", b"", id="zstd, empty"),
        pytest.param("zstd", BODY, id="zstd, not encoded"),
        pytest.param("zstd", zstd(BODY)[:-1], id="zstd, cut off"),
        pytest.param("zstd", zstd(BODY)[:3], id="zstd, cut off in the header"),
        pytest.param("zstd", zstd(BODY) + b"x", id="zstd, trailing text"),
        pytest.param("zstd", zstd(BODY) + b"trailing text", id="zstd, more trailing text"),
        pytest.param("zstd", gzip.compress(BODY), id="gzip sent as zstd"),
        pytest.param(
            "zstd",
            zstandard.ZstdCompressor(
                compression_params=zstandard.ZstdCompressionParameters(
                    window_log=25, write_content_size=False
                )
            )
            .compressobj()
            .compress(b"x" * 100)
            + b"\x28\xb5\x2f\xfd\x00\x88",
            id="zstd, window of 128 MiB",
        ),
    ],
)
def test_damaged_bodies_are_refused(coding: str, body: bytes) -> None:
    for chunk_bytes in (1, 1 << 16):
        with pytest.raises(InvalidInput) as refused:
            decoded(coding, body, chunk_bytes=chunk_bytes)
        assert not isinstance(refused.value, TooLarge)


@pytest.mark.parametrize("coding", ["identity", "gzip", "zstd"])
def test_the_decoded_size_is_bounded(coding: str) -> None:
    encoders: dict[str, Callable[[bytes], bytes]] = {
        "identity": bytes,
        "gzip": gzip.compress,
        "zstd": zstd,
    }
    encode = encoders[coding]
    body = bytes(MIB)
    assert decoded(coding, encode(body)) == body
    with pytest.raises(TooLarge, match=f"has more than {MIB} bytes"):
        decoded(coding, encode(body + b"x"))


@pytest.mark.parametrize(
    ("coding", "bomb"),
    [
        pytest.param("gzip", gzip.compress(bytes(64 * MIB)), id="gzip"),
        pytest.param("gzip", gzip.compress(bytes(MIB)) * 64, id="gzip, members"),
        pytest.param("zstd", zstd(bytes(64 * MIB)), id="zstd"),
        pytest.param("zstd", zstd(bytes(MIB)) * 64, id="zstd, frames"),
        pytest.param("gzip", gzip.compress(b"") * 2_000, id="gzip, empty members"),
        pytest.param("zstd", zstd(b"") * 2_000, id="zstd, empty frames"),
    ],
)
def test_bombs_are_refused(coding: str, bomb: bytes) -> None:
    with pytest.raises(TooLarge):
        decoded(coding, bomb, chunk_bytes=len(bomb))


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, zstd", "gzip,gzip", "x" * 1_000])
def test_other_codings_are_refused(coding: str) -> None:
    with pytest.raises(UnsupportedMedia, match="send one of gzip, zstd, or none") as refused:
        body_decoder(coding, MIB)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("accept_encoding", "coding"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("br", None),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("zstd", "zstd"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1, zstd;q=0.5", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=0, *", "zstd"),
        ("*", "zstd"),
        ("*;q=0", None),
        ("zstd;q=0, gzip ; q=0.1", "gzip"),
        ("gzip;q=0.5, identity", None),
        ("gzip;q=0.5, identity;q=0.1", "gzip"),
        ("gzip;q=2", None),
        ("gzip;q=nan", None),
    ],
)
def test_answer_coding(accept_encoding: str | None, coding: str | None) -> None:
    assert answer_coding(accept_encoding) == coding


def test_answers_are_encoded_where_it_pays() -> None:
    assert encode_content(BODY, None) == (BODY, None)
    assert encode_content(b"[]", "gzip") == (b"[]", None)
    for coding in ("gzip", "zstd"):
        encoded, used = encode_content(BODY, coding)
        assert used == coding
        assert len(encoded) < len(BODY)
        assert decoded(coding, encoded) == BODY
