"""Requests out of bytes: httptools (llhttp) with the bounds that it lacks.

llhttp is strict: what two readers could understand differently (two lengths, a length beside
`chunked`, bare line feeds, folded lines) it refuses; `_fault_of` refuses the rest of it. Here it
is seen to that a head, and whatever frames a body without being a byte of it, has an end; and that
no other protocol is changed to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httptools

from flowtally import limits
from flowtally.api.exchange import Exchange
from flowtally.errors import HeadTooLarge, Malformed, TargetTooLong, UnknownVersion

_STEP_BYTES = 4 * limits.KIB
"""How much is parsed at once, other than a body of known length: bounds how many pipelined requests
can be found before the first of them is answered."""

OnRequest = Callable[[str, bytes, Mapping[bytes, bytes], str, bool], Exchange]


class RequestParser:
    """Parses one connection's bytes, step by step.

    `on_request(method, target, headers, version, keep_alive)` is told each whole head, and makes
    the exchange that its body goes into; `on_news` is told that something has changed.
    """

    def __init__(self, on_request: OnRequest, on_news: Callable[[], None]) -> None:
        self._on_request = on_request
        self._on_news = on_news
        self._parser = httptools.HttpRequestParser(self)
        self.exchange: Exchange | None = None
        """Whose body is being parsed."""
        self.fault: Exception | None = None
        """Why it could not be parsed; nothing is parsed after it."""
        self.framing_bytes = 0
        """Parsed since the last piece of a body, or the last request: a head, mostly."""
        self.has_begun = False
        """Whether a part of a request has come, and not the whole of it."""
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_lines = 0
        self._head_is_whole = False

    def step(self, data: bytes, at: int) -> int:
        """Parses a little of the data, from a place in it on; returns up to where."""
        step = data[at : at + max(_STEP_BYTES, self._body_bytes_left())]
        at += len(step)
        self.framing_bytes += len(step)
        try:
            try:
                self._parser.feed_data(step)
            except httptools.HttpParserUpgrade as upgrade:
                at += upgrade.args[0] - len(step)
                self._stay_with_http()
        except httptools.HttpParserCallbackError as error:
            # Not the client's fault: ours, in one of the methods below.
            if self.exchange is not None:
                self.exchange.fault = error
            self._refuse(error)
        except httptools.HttpParserError as error:
            self._refuse(self._malformed(error))
        if self.framing_bytes > limits.HEAD_BYTES_MAX:
            if self._head_lines:
                self._refuse(HeadTooLarge(f"a head may have {limits.HEAD_BYTES_MAX} bytes"))
            else:
                self._refuse(TargetTooLong(f"a head may have {limits.HEAD_BYTES_MAX} bytes"))
        return at

    def cut_off(self) -> None:
        """Nothing more comes: a body that has not ended never will."""
        if self.exchange is not None:
            self.exchange.cut_off = True
            self.exchange = None

    def _body_bytes_left(self) -> int:
        exchange = self.exchange
        if exchange is None or exchange.content_length is None:
            return 0
        return exchange.content_length - exchange.bytes_in

    def _malformed(self, error: httptools.HttpParserError) -> Malformed:
        if self._parser.get_method() == b"PRI":
            return _unknown_version("2")
        # What llhttp says of it is one of its own sentences, and nothing of the client's.
        if str(error) == "Invalid HTTP version":
            return _unknown_version(self._parser.get_http_version())
        return Malformed(f"what came cannot be read as a request: {error}")

    def _refuse(self, fault: Exception) -> None:
        if self.fault is None:
            self.fault = fault
            self.cut_off()
            self._on_news()

    def _stay_with_http(self) -> None:
        """Goes on after a request that would rather change to another protocol.

        None is spoken here, so it is answered as it stands. httptools takes what follows its head
        for that protocol: left so, a body would be read as the next request. Another parser is told
        that there is one.
        """
        self._parser = httptools.HttpRequestParser(self)
        if self.exchange is not None:
            framing = {
                name: value
                for name, value in self.exchange.headers.items()
                if name in (b"content-length", b"transfer-encoding")
            }
            lines = b"".join(b"%b: %b\r\n" % line for line in framing.items())
            self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % lines)

    # What httptools calls.

    def on_message_begin(self) -> None:
        """A request begins."""
        self.has_begun = True
        self._target = b""
        self._headers = {}
        self._head_lines = 0
        self._head_is_whole = False

    def on_url(self, part: bytes) -> None:
        """A part of the target."""
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of the head; or of a trailer, which nobody reads."""
        self._head_lines += 1
        if self._head_is_whole:
            return
        name = name.lower()
        headers = self._headers
        headers[name] = headers[name] + b", " + value if name in headers else value
        if self._head_lines > limits.HEAD_LINES_MAX:
            self._refuse(HeadTooLarge(f"a head may have {limits.HEAD_LINES_MAX} lines"))

    def on_headers_complete(self) -> None:
        """A head is whole."""
        self._head_is_whole = True
        if self.exchange is not None:
            # Told by ourselves, of the body that is being parsed.
            return
        parser = self._parser
        version = parser.get_http_version()
        fault = _fault_of(version, self._headers)
        if fault is not None:
            self._refuse(fault)
        if self.fault is not None:
            return
        method = parser.get_method().decode("ascii")
        # What follows a CONNECT is for somebody else.
        keep_alive = parser.should_keep_alive() and method != "CONNECT"
        self.exchange = self._on_request(method, self._target, self._headers, version, keep_alive)
        self._on_news()

    def on_body(self, piece: bytes) -> None:
        """A piece of a body."""
        self.framing_bytes = 0
        if self.exchange is not None:
            self.exchange.take(piece)
            self._on_news()

    def on_message_complete(self) -> None:
        """A request is whole."""
        self.framing_bytes = 0
        self.has_begun = False
        exchange = self.exchange
        if exchange is None or (self._parser.should_upgrade() and not exchange.body_ended):
            return
        exchange.body_ended = True
        self.exchange = None
        self._on_news()


def _fault_of(version: str, headers: Mapping[bytes, bytes]) -> Malformed | None:
    """Why a head is not what RFC 9112 demands, as far as llhttp leaves it open."""
    if version not in ("1.0", "1.1"):
        return _unknown_version(version)
    # Section 3.2: one Host. Two come joined by a comma, which is in no name.
    if b"," in headers.get(b"host", b"") or (version == "1.1" and b"host" not in headers):
        return Malformed("HTTP/1.1 demands one Host, and HTTP/1.0 allows no more")
    # Section 6.1: no other transfer coding is undone here, and HTTP/1.0 has none at all.
    coding = headers.get(b"transfer-encoding")
    if coding is not None and (coding.lower() != b"chunked" or version == "1.0"):
        return Malformed("the only Transfer-Encoding is chunked, and HTTP/1.0 has none")
    return None


def _unknown_version(version: str) -> UnknownVersion:
    return UnknownVersion(f"HTTP/{version} is not spoken here: use HTTP/1.1")
