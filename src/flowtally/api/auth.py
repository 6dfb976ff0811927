"""Who may do what, and how often: decided from the head of a request, before any of its body.

Paths are open, or need a scope; one that nobody thought of needs a token as well, so a route that
is added later is not open by mistake. Bearer tokens as RFC 6750 has them, in the header alone.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Callable
from functools import lru_cache

from flowtally.access.tokens import ADMIN, READ, WRITE, TokenEntry, TokenSet, is_token
from flowtally.api.exchange import Exchange
from flowtally.api.rate_limit import RateLimit
from flowtally.api.routes import ROUTES, WRITE_OPERATION
from flowtally.errors import NotAuthenticated, NotPermitted, RateLimited

logger = logging.getLogger(__name__)

_WRITE_PATHS = frozenset(
    place.path for place in ROUTES.places if place.operation == WRITE_OPERATION
)
PROBES = frozenset(("/livez", "/readyz"))
"""Asked by machines that know nothing but the address; never too often."""
OPEN_PATHS = PROBES | {"/version", "/openapi.json", "/docs", "/docs/problems", "/"}
_READ_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
# RFC 9110, section 11.4: the scheme in any case, one space or more, and a token68.
_BEARER = re.compile(rb"bearer +([A-Za-z0-9._~+/-]+=*)[ \t]*", re.IGNORECASE)
_CHALLENGE = 'Bearer realm="flowtally"'
_HINT = "send it as the header Authorization: Bearer TOKEN"


def scope_of(method: str, path: str) -> str | None:
    """What a token must be allowed for this; None where no token is needed."""
    if path in OPEN_PATHS:
        return None
    if method in _READ_METHODS:
        return READ
    return WRITE if method == "POST" and path in _WRITE_PATHS else ADMIN


class Gate:
    """Lets requests pass, or raises why not."""

    def __init__(self, tokens: Callable[[], TokenSet] | None, rate_limit: RateLimit | None) -> None:
        """`tokens` are those that are valid now; without them everybody may do everything."""
        self._tokens = tokens
        self._rate_limit = rate_limit

    @property
    def is_open(self) -> bool:
        """Whether it would let everything pass."""
        return self._tokens is None and self._rate_limit is None

    def admit(self, exchange: Exchange, path: str) -> None:
        """Notes whose token it is, and counts the request. Raises `NotAuthenticated`,
        `NotPermitted` or `RateLimited`."""
        if path in PROBES:
            return
        entry, fault = None, None
        if self._tokens is not None:
            scope = scope_of(exchange.method, path)
            entry, fault = self._identify(exchange, self._tokens(), scope)
        if self._rate_limit is not None:
            # Whoever guesses tokens is counted as well: by his address.
            self._count(exchange, self._rate_limit, entry)
        if fault is not None:
            raise fault

    def _identify(
        self, exchange: Exchange, tokens: TokenSet, scope: str | None
    ) -> tuple[TokenEntry | None, NotAuthenticated | NotPermitted | None]:
        """The entry of a valid token, and why it does not do."""
        given = exchange.headers.get(b"authorization")
        if given is None:
            return None, None if scope is None else _missing("no token was sent")
        bearer = _BEARER.fullmatch(given)
        if bearer is None:
            if scope is None:
                return None, None
            if given[:6].lower() == b"bearer":
                return None, _invalid("malformed", "the Authorization header is not valid")
            return None, _missing("no bearer token was sent")
        entry = tokens.entry_of(bearer.group(1))
        if entry is not None:
            exchange.token_name = entry.name
        if scope is None:
            return None if entry is None or entry.revoked is not None else entry, None
        if entry is None:
            if is_token(bearer.group(1).decode("ascii")):
                return None, _invalid("unknown", "the token is not known here")
            return None, _invalid("malformed", "what was sent is no token of flowtally")
        if entry.revoked is not None:
            return None, _invalid("revoked", "the token was revoked")
        return entry, None if scope in entry.may else _not_permitted(entry, scope)

    def _count(self, exchange: Exchange, limit: RateLimit, entry: TokenEntry | None) -> None:
        taken = limit.take(client_of(exchange.client) if entry is None else entry.sha256)
        exchange.more_lines = limit.lines(taken)
        if not taken.granted:
            raise RateLimited(
                "more requests came from this client than it may send; send it again after"
                " Retry-After, and more records in each batch",
                taken.retry_after_s,
            )


@lru_cache(maxsize=4_096)
def client_of(address: str | None) -> str:
    """What clients without a token are counted by: of IPv6 the /64 alone, because whoever has one
    has all addresses in it."""
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return address or ""
    if found.version == 6:
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found.packed[:8] + bytes(8), 64)))
    return str(found)


def _missing(detail: str) -> NotAuthenticated:
    # RFC 6750, section 3.1: no error code for who tried nothing.
    return NotAuthenticated(f"{detail}; {_HINT}", "missing", _CHALLENGE)


def _invalid(reason: str, detail: str) -> NotAuthenticated:
    return NotAuthenticated(detail, reason, f'{_CHALLENGE}, error="invalid_token"')


def _not_permitted(entry: TokenEntry, scope: str) -> NotPermitted:
    may = " and ".join(sorted(entry.may))
    return NotPermitted(
        f"the token {entry.name} may {may}; this needs one that may {scope}",
        "scope",
        f'{_CHALLENGE}, error="insufficient_scope", scope="{scope}"',
    )
