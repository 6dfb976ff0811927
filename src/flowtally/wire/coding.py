"""Content codings: bodies are decoded as they come, and never beyond a bound; answers are encoded.

gzip (RFC 1952) and zstd (RFC 8878). A body of 16 MiB can hold 16 GiB of zeros, so the decoded size
is counted while it grows, and each step makes little of it. One coding at a time: no stacks.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from typing import Any

import zstandard

from flowtally import limits
from flowtally.errors import InvalidInput, TooLarge, UnsupportedMedia
from flowtally.wire.media import quality_among

_PART_BYTES_MAX = 256 * limits.KIB
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
            raise TooLarge(f"the decoded body has more than {self._decoded_bytes_max} bytes")
        return decoded


class _Identity(BodyDecoder):
    def feed(self, chunk: bytes) -> bytes:
        return self._count(chunk)


class _Framed(BodyDecoder):
    """A body of one frame or several, one after the other; nothing may stand behind the last."""

    coding: str
    damage: type[Exception]
    step_bytes: int
    """How much is decoded at once; it bounds what one step can make."""

    def __init__(self, decoded_bytes_max: int) -> None:
        super().__init__(decoded_bytes_max)
        self._frame: Any = None
        self._frames = 0

    @abstractmethod
    def _open_frame(self) -> Any:
        """A decompressor with `eof` and `unused_data`."""

    @abstractmethod
    def _decode(self, step: bytes) -> bytes:
        """Everything that a step decodes to, counted as it comes."""

    def feed(self, chunk: bytes) -> bytes:
        parts: list[bytes] = []
        view = memoryview(chunk)
        at = 0
        try:
            while at < len(view):
                if self._frame is None or self._frame.eof:
                    self._next_frame()
                step = view[at : at + self.step_bytes]
                parts.append(self._decode(bytes(step)))
                at += len(step) - len(self._frame.unused_data)
        except self.damage as error:
            raise InvalidInput(f"the body is not valid {self.coding}: {error}") from error
        return b"".join(parts)

    def finish(self) -> bytes:
        if self._frame is None:
            raise InvalidInput(f"the {self.coding} body is empty")
        if not self._frame.eof:
            raise InvalidInput(f"the {self.coding} body is cut off")
        return b""

    def _next_frame(self) -> None:
        self._frames += 1
        if self._frames > limits.CODING_FRAMES_MAX:
            raise TooLarge(f"the {self.coding} body has more than {limits.CODING_FRAMES_MAX} parts")
        self._frame = self._open_frame()


class _Gzip(_Framed):
    """One gzip member, or several."""

    coding = "gzip"
    damage = zlib.error
    step_bytes = 64 * limits.KIB

    def _open_frame(self) -> Any:
        return zlib.decompressobj(wbits=31)

    def _decode(self, step: bytes) -> bytes:
        parts = []
        while True:
            part = self._frame.decompress(step, _PART_BYTES_MAX)
            parts.append(self._count(part))
            # At the member's end zlib names what follows it in `unused_data`, and may name it a
            # second time in `unconsumed_tail`, where it would be taken for more of this member.
            if self._frame.eof:
                return b"".join(parts)
            step = self._frame.unconsumed_tail
            # With all of the input taken, more can only be waiting where the part is full.
            if not step and len(part) < _PART_BYTES_MAX:
                return b"".join(parts)


class _Zstd(_Framed):
    """One zstd frame, or several."""

    coding = "zstd"
    damage = zstandard.ZstdError
    # A block of 4 bytes can stand for 128 KiB, so a step makes 16 MiB at most.
    step_bytes = 512

    def __init__(self, decoded_bytes_max: int) -> None:
        super().__init__(decoded_bytes_max)
        self._zstd = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX)

    def _open_frame(self) -> Any:
        return self._zstd.decompressobj(write_size=_PART_BYTES_MAX)

    def _decode(self, step: bytes) -> bytes:
        return self._count(self._frame.decompress(step))


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
    """The coding to encode an answer with, None for none (RFC 9110, section 12.5.3).

    zstd is taken where both are as welcome, and none where that is what is preferred by name.
    """
    accepted: dict[str, float] = {}
    for part in (accept_encoding or "").lower().split(","):
        name, *parameters = (text.strip() for text in part.split(";"))
        accepted[name] = quality_among(parameters)
    other = accepted.get("*", 0.0)
    quality, coding = max((accepted.get(coding, other), coding) for coding in ("gzip", "zstd"))
    return coding if quality > 0 and quality >= accepted.get("identity", 0.0) else None


def encode_content(body: bytes, coding: str | None) -> tuple[bytes, str | None]:
    """The body in a coding of `answer_coding`, and the coding; a small body stays as it is."""
    if coding is None or len(body) < _ENCODE_BYTES_MIN:
        return body, None
    if coding == "zstd":
        return zstandard.ZstdCompressor(level=3).compress(body), coding
    compressor = zlib.compressobj(level=1, wbits=31)
    return compressor.compress(body) + compressor.flush(), coding
