"""The certificate that the service shows, and how TLS is spoken with it: 1.2 or later.

Python's own defaults for a server are good (no compression, no renegotiation, forward secrecy
alone); what stands here is what they leave open.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from flowtally import limits
from flowtally.access.private_file import read_private
from flowtally.errors import SettingsError

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _EXPLICIT_VERSION, _UTC_TIME = 0x30, 0xA0, 0x17


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a connection is made with, and until when that is any good."""

    context: ssl.SSLContext
    expires_s: int
    """Seconds since 1970: the end of the first certificate of the file, which is the service's."""


def read_certificate(certificate: Path, key: Path) -> Certificate:
    """Raises `SettingsError` naming the file, where they cannot be read or do not belong
    together."""
    read_private(key, "the TLS key", limits.TLS_FILE_BYTES_MAX)
    try:
        content = certificate.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"the TLS certificate {certificate} cannot be read: {error.strerror}"
        ) from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    try:
        # A key with a pass phrase would have OpenSSL ask for it on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: "")
        return Certificate(context, _expires_s(content))
    except (ssl.SSLError, ValueError, IndexError) as error:
        why = getattr(error, "reason", None) or str(error)
        raise SettingsError(
            f"the TLS certificate {certificate} and the key {key} cannot be used: {why}"
        ) from error


def _expires_s(content: bytes) -> int:
    """The end of the first certificate's validity (RFC 5280, section 4.1): the fourth thing in it
    behind its version. Python's `ssl` tells that of a peer's certificate alone."""
    pem = _PEM.search(content)
    if pem is None:
        raise ValueError("there is no certificate in it")
    der = ssl.PEM_cert_to_DER_cert(pem.group().decode("ascii"))
    at, _ = _inside(der, 0, _SEQUENCE)
    at, _ = _inside(der, at, _SEQUENCE)
    skipped = 4 if der[at] == _EXPLICIT_VERSION else 3
    for _ in range(skipped):
        _, at = _inside(der, at)
    at, _ = _inside(der, at, _SEQUENCE)
    _, at = _inside(der, at)
    begin, end = _inside(der, at)
    text = der[begin:end].decode("ascii")
    if der[at] == _UTC_TIME:
        text = ("20" if text < "50" else "19") + text
    year, rest = text[:4], text[4:]
    months = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
    month, day, clock = months[int(rest[:2]) - 1], rest[2:4], rest[4:10]
    moment = f"{month} {day} {clock[:2]}:{clock[2:4]}:{clock[4:]} {year} GMT"
    return ssl.cert_time_to_seconds(moment)


def _inside(der: bytes, at: int, tag: int | None = None) -> tuple[int, int]:
    """Where the content of the value at a place begins and ends (X.690, section 8.1)."""
    if tag is not None and der[at] != tag:
        raise ValueError("the certificate is not one")
    length, begin = der[at + 1], at + 2
    if length & 0x80:
        digits = length & 0x7F
        length = int.from_bytes(der[begin : begin + digits], "big")
        begin += digits
    return begin, begin + length
