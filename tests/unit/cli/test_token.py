"""`flowtally token`, and the commands that send one, against a real service."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path

import pytest

from flowtally.access.tokens import is_token
from flowtally.config import Settings
from tests.unit.cli.conftest import Call, serving

FILE = ("--tokens", "tokens.json")
RECORD = (
    '[{"src_app":"foo","dest_app":"bar","vpc_id":"vpc-0","hour":1,"bytes_rx":300,"bytes_tx":100}]'
)


def added(call: Call, name: str, *may: str) -> str:
    """A new token, as it is printed."""
    ended = call("token", "add", name, *(f"--may={scope}" for scope in may), *FILE)
    assert ended.code == 0, ended
    [token] = ended.lines
    assert is_token(token)
    assert ended.err == (
        f"{name} may {' and '.join(sorted(may))}; tokens.json has its hash. Only now is it shown:\n"
    )
    return token


def test_tokens_are_made_listed_and_revoked(call: Call) -> None:
    first = added(call, "agents", "write")
    second = added(call, "dashboard", "read", "admin")
    assert stat.S_IMODE(Path("tokens.json").stat().st_mode) == 0o600
    assert call("token", "revoke", "agents", *FILE).lines == [
        "agents is revoked; a running service refuses it within two seconds"
    ]
    listed = call("token", "list", *FILE)
    rows = [line.split() for line in listed.lines]
    assert rows[0] == ["name", "may", "created", "revoked"]
    assert [row[:2] for row in rows[1:]] == [["agents", "write"], ["dashboard", "admin,read"]]
    assert [len(row) for row in rows[1:]] == [4, 3]
    for token in (first, second):
        assert token not in listed.out + Path("tokens.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("add", "a", "--may", "read"), "which tokens file? name it by --tokens"),
        (("list",), "which tokens file?"),
        (("add", "a b", "--may", "read", *FILE), "a token cannot be named so"),
        (("add", "a", "--may", "all", *FILE), "'all' is not one of"),
        (("add", "a", *FILE), "Missing option '--may'"),
        (("revoke", "gone", *FILE), "the tokens file tokens.json cannot be read"),
        (("list", *FILE), "the tokens file tokens.json cannot be read"),
    ],
)
def test_what_cannot_be_done_is_told(call: Call, arguments: tuple[str, ...], told: str) -> None:
    ended = call("token", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert told in ended.err


def test_the_file_is_the_one_that_the_service_is_told_of(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    # That the rest of it would not be served is no reason to make no token for it.
    Path("flowtally.toml").write_text('host = "0.0.0.0"\ntokens = "there.json"\n')
    assert call("token", "add", "a", "--may", "read").code == 0
    assert Path("there.json").exists()
    monkeypatch.setenv("FLOWTALLY_TOKENS", "other.json")
    assert call("token", "add", "a", "--may", "read").code == 0
    assert Path("other.json").exists()


def test_each_command_sends_its_token(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    write, read, admin = (
        added(call, "w", "write"),
        added(call, "r", "read"),
        added(call, "a", "admin"),
    )
    for name, token in (("w", write), ("r", read), ("a", admin)):
        Path(name).write_text(f"{token}\n")
    Path("records.json").write_text(RECORD)
    Path("log").write_text(
        "2 1 eni-1 10.0.0.1 10.0.0.2 40000 443 6 1 100 1700000000 1700000060 ACCEPT OK\n"
    )
    asking = {
        "w": (
            ("send", "records.json"),
            ("import", "aws-vpc", "log"),
            ("demo", "--records", "10"),
        ),
        "r": (("query", "--hour", "1"), ("verify",)),
        "a": (("aggregate",),),
    }
    settings = Settings(store="memory", access_log=False, tokens=Path("tokens.json"))
    with serving(settings) as running:
        monkeypatch.setenv("FLOWTALLY_URL", running.url)
        for owner, calls in asking.items():
            for arguments in calls:
                more = ("--url", running.url) if arguments[0] in ("verify", "aggregate") else ()
                nobody = call(*arguments, *more)
                assert nobody.code == 1 and "answered 401: no token was sent" in nobody.err
                for file in ("w", "r", "a"):
                    ended = call(*arguments, *more, "--token-file", file)
                    assert ended.code == (0 if file == owner else 1), (arguments, file, ended)
                    assert file == owner or "answered 403: the token" in ended.err
        # The variable does as well, and a file goes before it.
        monkeypatch.setenv("FLOWTALLY_TOKEN", read)
        assert call("query", "--hour", "1").code == 0
        assert call("query", "--hour", "1", "--token-file", "w").code == 1
        monkeypatch.setenv("FLOWTALLY_TOKEN_FILE", "w")
        assert call("query", "--hour", "1").code == 1


def test_copy_sends_each_service_its_own(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    one = added(call, "one", "read")
    Path("one").write_text(one)
    two = call("token", "add", "two", "--may=read", "--may=write", "--tokens", "two.json")
    Path("two").write_text(two.out)
    source = Settings(store="memory", access_log=False, tokens=Path("tokens.json"))
    target = Settings(store="memory", access_log=False, tokens=Path("two.json"))
    monkeypatch.setenv("FLOWTALLY_TOKEN", one)
    with serving(source) as first, serving(target) as second:
        ends = ("--from", first.url, "--to", second.url)
        assert "answered 401: no token was sent" in call("copy", *ends).err
        assert "401" in call("copy", *ends, "--from-token-file", "one").err
        swapped = call("copy", *ends, "--from-token-file", "two", "--to-token-file", "one")
        assert swapped.code == 1 and "401" in swapped.err
        ended = call("copy", *ends, "--from-token-file", "one", "--to-token-file", "two")
        assert ended.code == 0, ended


@pytest.mark.parametrize("content", ["", "\n", "a b", "flt_é"])
def test_a_token_file_that_holds_none(call: Call, content: str) -> None:
    Path("t").write_text(content)
    ended = call("query", "--hour", "1", "--token-file", "t")
    assert ended.code == 2
    assert ended.err == "flowtally: the token file t must hold a token and nothing else\n"


def test_a_revocation_holds_without_a_restart(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stays", "leaked"):
        Path(name).write_text(added(call, name, "read"))
    settings = Settings(store="memory", access_log=False, tokens=Path("tokens.json"))
    with serving(settings) as running:
        query = ("query", "--hour", "1", "--url", running.url, "--token-file")
        assert call(*query, "leaked").code == 0
        call("token", "revoke", "leaked", *FILE)
        revoked_s = time.monotonic()
        while call(*query, "leaked").code == 0:
            assert time.monotonic() - revoked_s < 30
        # Said to hold within two seconds; the machine may be busy.
        assert "answered 401: the token was revoked" in call(*query, "leaked").err
        assert call(*query, "stays").code == 0
        # A file that is broken lets nobody in that was not, and nobody out.
        Path("tokens.json").write_text("{")
        until_s = time.monotonic() + 30
        parts: dict[str, dict[str, str]] = {}
        while parts.get("tokens", {}).get("state") != "error":
            assert time.monotonic() < until_s
            parts = {
                part.name: {"state": part.state} for part in running.service.credentials.health()
            }
        assert call(*query, "stays").code == 0
        assert call(*query, "leaked").code == 1


def test_a_token_in_the_clear_is_warned_of(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWTALLY_TOKEN", "x")
    # Nobody listens there (RFC 5737); that it is given up on at once is all that is wanted.
    ended = call("send", "-", "--url", "http://192.0.2.1:9", "--give-up-after-s", "0")
    assert "goes to http://192.0.2.1:9 in the clear" in ended.err
    ended = call("query", "--hour", "1", "--url", "http://127.0.0.1:9")
    assert "in the clear" not in ended.err
    assert json.dumps("x") not in ended.err
