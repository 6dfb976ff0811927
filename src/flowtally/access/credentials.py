"""The tokens and the certificate of a service, watched; each is left out where no file is named."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from flowtally import limits
from flowtally.access.tls import Certificate, read_certificate
from flowtally.access.tokens import TokenSet
from flowtally.access.tokens_file import read_tokens
from flowtally.access.watched import Watched
from flowtally.clock import Clock
from flowtally.model import PartHealth

_HINT = "docs/runbooks/credentials-unusable.md"
_DAY_S = 86_400


class Credentials:
    """What clients are known by, and what the service is known by."""

    def __init__(
        self,
        tokens: Path | None,
        certificate: Path | None,
        key: Path | None,
        clock: Clock,
    ) -> None:
        self._tokens: Watched[TokenSet] | None = None
        self._certificate: Watched[Certificate] | None = None
        if tokens is not None:
            self._tokens = Watched(
                "tokens", [tokens], lambda: read_tokens(tokens), clock, _HINT, _told
            )
        if certificate is not None and key is not None:
            self._certificate = Watched(
                "certificate",
                [certificate, key],
                lambda: read_certificate(certificate, key),
                clock,
                _HINT,
                lambda found: _validity(found, clock.now_ms() // 1000),
            )

    @property
    def tokens(self) -> Callable[[], TokenSet] | None:
        """Gives the tokens as they are now; None where none are asked for."""
        watched = self._tokens
        return None if watched is None else lambda: watched.value

    @property
    def tls(self) -> Callable[[], ssl.SSLContext] | None:
        """Gives what a new connection is made with; None where TLS is not spoken."""
        watched = self._certificate
        return None if watched is None else lambda: watched.value.context

    async def start(self) -> None:
        """Reads all of it. Raises `SettingsError` saying what cannot be used."""
        for watched in self._all():
            await watched.start()

    def reload(self) -> None:
        """Reads all of it again, now."""
        for watched in self._all():
            watched.reload()

    async def close(self) -> None:
        """Ends the watching; may be called twice."""
        for watched in self._all():
            await watched.close()

    def health(self) -> list[PartHealth]:
        """A part for each file that is in use."""
        return [watched.health() for watched in self._all()]

    def _all(self) -> list[Watched[TokenSet] | Watched[Certificate]]:
        return [one for one in (self._tokens, self._certificate) if one is not None]


def _told(tokens: TokenSet) -> tuple[str, str]:
    valid = sum(entry.revoked is None for entry in tokens.entries)
    if not valid:
        return "warning", "there is no valid token: nobody is let in"
    return "ok", f"{valid} valid tokens"


def _validity(certificate: Certificate, now_s: int) -> tuple[str, str]:
    left_s = certificate.expires_s - now_s
    if left_s <= 0:
        return "error", f"the certificate ended {-left_s // _DAY_S} days ago"
    state = "ok" if left_s >= limits.CERTIFICATE_LEFT_S_MIN else "warning"
    return state, f"the certificate ends in {left_s // _DAY_S} days"
