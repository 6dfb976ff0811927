"""What would let strangers in: settings that are right each by itself, and not together."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowtally.config import Settings


def open_doors(settings: Settings, sources: Mapping[str, str]) -> Iterator[str]:
    """The faults, in words; `sources` says where each setting came from."""
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        given, other = "tls_certificate", "tls_key"
        if settings.tls_certificate is None:
            given, other = other, given
        yield f"{given} ({sources[given]}) is of no use without {other}"
    if settings.insecure or is_loopback(settings.host):
        return
    lacking = []
    if settings.tokens is None:
        lacking.append(
            "nothing asks clients who they are (make a token: flowtally token add NAME --may write"
            " --tokens FILE, then serve with --tokens FILE)"
        )
    if settings.tls_certificate is None:
        lacking.append(
            "what they send can be read on the way (serve with --tls-certificate FILE"
            " --tls-key FILE)"
        )
    if lacking:
        yield (
            f"host {settings.host} ({sources['host']}) can be reached from other machines, and"
            f" {'; and '.join(lacking)}; or use 127.0.0.1, or --insecure if the network itself is"
            " trusted"
        )


def is_loopback(host: str) -> bool:
    """Whether a host can be reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
