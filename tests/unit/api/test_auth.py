"""Who may do what: the scope of each path, and what is read in an Authorization header."""

from __future__ import annotations

import pytest

from flowtally.access.tokens import TokenEntry, TokenSet, digest_of, new_token
from flowtally.api.auth import Gate, client_of, scope_of
from flowtally.api.exchange import Exchange
from flowtally.errors import NotAuthenticated

TOKEN, OTHER = new_token(), new_token()
TOKENS = TokenSet([TokenEntry("agents", frozenset(["write"]), digest_of(TOKEN), "2026")])
INVALID = ', error="invalid_token"'
HINT = "send it as the header Authorization: Bearer TOKEN"


def exchange(authorization: bytes | None) -> Exchange:
    headers = {} if authorization is None else {b"authorization": authorization}
    return Exchange("POST", b"/v1/flows", headers, None, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/v1/flows", "write"),
        ("POST", "/flows", "write"),
        ("GET", "/v1/flows", "read"),
        ("HEAD", "/flows", "read"),
        ("GET", "/v1/query", "read"),
        ("GET", "/health", "read"),
        ("GET", "/metrics", "read"),
        ("POST", "/v1/aggregate", "admin"),
        ("POST", "/v1/backup", "admin"),
        ("DELETE", "/v1/flows", "admin"),
        ("PUT", "/metrics", "admin"),
        ("GET", "/livez", None),
        ("POST", "/", None),
        # What nobody thought of is not open.
        ("GET", "/livez/", "read"),
        ("GET", "//livez", "read"),
        ("GET", "/Livez", "read"),
        ("GET", "", "read"),
        ("BREW", "/v2/anything", "admin"),
    ],
)
def test_what_each_path_needs(method: str, path: str, scope: str | None) -> None:
    assert scope_of(method, path) == scope


@pytest.mark.parametrize(
    "form", ["Bearer {}", "bearer {}", "BEARER   {}", "bEaReR {} ", "Bearer {}\t"]
)
def test_a_token_is_read_as_the_rfcs_write_it(form: str) -> None:
    asked = exchange(form.format(TOKEN).encode())
    Gate(lambda: TOKENS, None).admit(asked, "/v1/flows")
    assert asked.token_name == "agents"


@pytest.mark.parametrize(
    ("authorization", "reason", "challenge"),
    [
        (None, "missing", ""),
        (b"", "missing", ""),
        (b"Basic dXNlcjpwYXNz", "missing", ""),
        (b"Digest username=x", "missing", ""),
        (b"TOKEN", "missing", ""),
        (b"Bearer", "malformed", INVALID),
        (b"Bearer ", "malformed", INVALID),
        (b"BearerTOKEN", "malformed", INVALID),
        (b"Bearer\tTOKEN", "malformed", INVALID),
        (b"Bearer TOKEN x", "malformed", INVALID),
        (b'Bearer "TOKEN"', "malformed", INVALID),
        # Two headers come as one.
        (b"Bearer TOKEN, Bearer TOKEN", "malformed", INVALID),
        (b"Bearer \xff\x00", "malformed", INVALID),
        (b"Bearer " + b"a" * 60_000, "malformed", INVALID),
        (b"Bearer LOWER", "malformed", INVALID),
        (b"Bearer TOKEN=", "malformed", INVALID),
        (b"Bearer OTHER", "unknown", INVALID),
    ],
)
def test_what_is_not_let_in(authorization: bytes | None, reason: str, challenge: str) -> None:
    if authorization is not None:
        for word, token in ((b"TOKEN", TOKEN), (b"LOWER", TOKEN.lower()), (b"OTHER", OTHER)):
            authorization = authorization.replace(word, token.encode())
    asked = exchange(authorization)
    with pytest.raises(NotAuthenticated) as caught:
        Gate(lambda: TOKENS, None).admit(asked, "/v1/flows")
    assert caught.value.reason == reason
    assert caught.value.challenge == f'Bearer realm="flowtally"{challenge}'
    assert asked.token_name is None
    assert (HINT in str(caught.value)) == (reason == "missing")


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, ""),
    ],
)
def test_whom_an_address_stands_for(address: str | None, client: str) -> None:
    assert client_of(address) == client
