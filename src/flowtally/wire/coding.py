"""Content codings: bodies are decoded as they come, and never beyond a bound; answers are encoded.

gzip (RFC 1952) and zstd (RFC 8878). A body of 16 MiB can hold 16 GiB of zeros, so the decoded size
is counted while it grows, and each step makes little of it.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod

import zstandard

from flowtally import limits
from flowtally.errors import InvalidInput, TooLarge, UnsupportedMedia
from flowtally.wire.media import quality_of

_STEP_BYTES = 256 * limits.KIB
_ZSTD_WINDOW_BYTES_MAX = 8 * limits.MIB
"""RFC 8878, section 3.1.1.1.2 recommends that a decoder takes windows of 8 MiB at least."""
_ENCODE_BYTES_MIN = limits.KIB
"""A smaller answer is sent as it is."""


class BodyDecoder(ABC):
    """Decodes one body, chunk by chunk, and counts what comes out."""

    def __init__(self, decoded_bytes_max: int) -> None:
        self._decoded_bytes_max = decoded_bytes_max
        self._decoded_bytes = 0

    @abstractmethod
    def feed(self, chunk: bytes) -> bytes:
        """What the chunk decodes to. Raises `TooLarge` or `InvalidInput`."""

    def finish(self) -> bytes:
        """What is left at the end. Raises `InvalidInput` where the body is cut off."""
        return b""

    def _count(self, decoded: bytes) -> bytes:
        self._decoded_bytes += len(decoded)
        if self._decoded_bytes > self._decoded_bytes_max:
            raise TooLarge(
                f"the decoded body has more than {self._decoded_bytes_max} bytes"
            )
        return decoded


class _Identity(BodyDecoder):
    def feed(self, chunk: bytes) -> bytes:
        return self._count(chunk)


class _Gzip(BodyDecoder):
    """One gzip member, or several."""

    def __init__(self, decoded_bytes_max: int) -> None:
        super().__init__(decoded_bytes_max)
        self._member = zlib.decompressobj(wbits=31)
        self._begun = False

    def feed(self, chunk: bytes) -> bytes:
        parts: list[bytes] = []
        try:
            while chunk:
                if self._member.eof:
                    self._member = zlib.decompressobj(wbits=31)
                self._begun = True
                parts.append(self._count(self._member.decompress(chunk, _STEP_BYTES)))
                chunk = self._member.unconsumed_tail or self._member.unused_data
        except zlib.error as error:
            raise InvalidInput(f"the body is not valid gzip: {error}") from error
        return b"".join(parts)

    def finish(self) -> bytes:
        parts: list[bytes] = []
        while not self._member.eof:
            part = self._member.decompress(b"", _STEP_BYTES)
            if not part:
                break
            parts.append(self._count(part))
        if self._begun and not self._member.eof:
            raise InvalidInput("the gzip body is cut off")
        return b"".join(parts)


class _Zstd(BodyDecoder):
    """One zstd frame, or several."""

    def __init__(self, decoded_bytes_max: int) -> None:
        super().__init__(decoded_bytes_max)
        self._zstd = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX)
        self._frame = self._zstd.decompressobj(write_size=_STEP_BYTES)
        self._begun = False

    def feed(self, chunk: bytes) -> bytes:
        parts: list[bytes] = []
        try:
            while chunk:
                if self._frame.eof:
                    self._frame = self._zstd.decompressobj(write_size=_STEP_BYTES)
                self._begun = True
                # A small input bounds what one step can make: zstd reaches about 1:30,000.
                parts.append(
                    self._count(self._frame.decompress(chunk[:_ZSTD_STEP_BYTES]))
                )
                chunk = self._frame.unused_data + chunk[_ZSTD_STEP_BYTES:]
        except zstandard.ZstdError as error:
            raise InvalidInput(f"the body is not valid zstd: {error}") from error
        return b"".join(parts)

    def finish(self) -> bytes:
        if self._begun and not self._frame.eof:
            raise InvalidInput("the zstd body is cut off")
        return b""


_ZSTD_STEP_BYTES = 512

_DECODERS: dict[str, type[BodyDecoder]] = {
    "identity": _Identity,
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "zstd": _Zstd,
}
CODINGS_READ = "gzip, zstd"


def body_decoder(content_encoding: str | None, decoded_bytes_max: int) -> BodyDecoder:
    """The decoder of a body. Raises `UnsupportedMedia` for a coding, or a stack, not read here."""
    coding = (content_encoding or "identity").strip().lower()
    decoder = _DECODERS.get(coding)
    if decoder is None:
        raise UnsupportedMedia(
            f"the Content-Encoding {coding[:40]!r} is not read; send one of {CODINGS_READ}, or none"
        )
    return decoder(decoded_bytes_max)


def answer_coding(accept_encoding: str | None) -> str | None:
    """The coding to encode an answer with, None for none. zstd is preferred where both may be."""
    accepted: dict[str, float] = {}
    for part in (accept_encoding or "").lower().split(","):
        name, _, parameter = part.partition(";")
        value = parameter.partition("=")[2].strip()
        accepted[name.strip()] = quality_of(value) if parameter.strip() else 1.0
    other = accepted.get("*", 0.0)
    ranked = [(accepted.get(coding, other), coding) for coding in ("gzip", "zstd")]
    quality, coding = max(ranked)
    return coding if quality > 0 else None


def encode_content(body: bytes, coding: str | None) -> tuple[bytes, str | None]:
    """The body in a coding of `answer_coding`, and the coding; a small body stays as it is."""
    if coding is None or len(body) < _ENCODE_BYTES_MIN:
        return body, None
    if coding == "zstd":
        return zstandard.ZstdCompressor(level=3).compress(body), coding
    compressor = zlib.compressobj(level=1, wbits=31)
    return compressor.compress(body) + compressor.flush(), coding
