"""The tokens file: what is kept, who may read it, and what is said of one that is broken."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flowtally import limits
from flowtally.access.tokens import new_token
from flowtally.access.tokens_file import add_token, read_tokens, revoke_token
from flowtally.errors import SettingsError

NOW = "2026-11-25T11:00:00.000Z"
LATER = "2026-11-25T12:00:00.000Z"
ROW = {"name": "a", "may": ["read"], "sha256": "ab" * 32, "created": NOW}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def test_a_token_is_kept_as_its_hash_alone_and_is_found(file: Path) -> None:
    token = add_token(file, "agents", ["write", "read", "write"], NOW)
    assert token not in file.read_text() and token[4:40] not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = read_tokens(file).entry_of(token.encode())
    assert found is not None
    assert (found.name, found.may, found.created) == ("agents", frozenset(["read", "write"]), NOW)
    assert found.revoked is None


def test_a_revoked_one_is_known_by_its_name_and_the_name_can_be_given_again(file: Path) -> None:
    old = add_token(file, "agents", ["write"], NOW)
    with pytest.raises(SettingsError, match="there is a token agents already"):
        add_token(file, "agents", ["read"], NOW)
    revoke_token(file, "agents", LATER)
    new = add_token(file, "agents", ["read"], LATER)
    revoke_later = read_tokens(file)
    found = [revoke_later.entry_of(token.encode()) for token in (old, new)]
    assert [one and one.revoked for one in found] == [LATER, None]
    revoke_token(file, "agents", "2027-01-01T00:00:00.000Z")
    assert [one.revoked for one in read_tokens(file).entries] == [LATER, "2027-01-01T00:00:00.000Z"]
    with pytest.raises(SettingsError, match="no valid token of that name"):
        revoke_token(file, "agents", LATER)


def test_the_longest_revoked_are_forgotten(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TOKENS_REVOKED_MAX", 2)
    for number in range(4):
        add_token(file, f"t{number}", ["read"], NOW)
        revoke_token(file, f"t{number}", f"2026-11-25T12:00:0{number}.000Z")
    assert [one.name for one in read_tokens(file).entries] == ["t2", "t3"]
    monkeypatch.setattr(limits, "TOKENS_MAX", 1)
    add_token(file, "last", ["read"], NOW)
    with pytest.raises(SettingsError, match="has 1 tokens, and no more are kept"):
        add_token(file, "more", ["read"], NOW)


def test_those_who_add_at_the_same_time_wait_for_each_other(file: Path) -> None:
    names = [f"t{number}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda name: add_token(file, name, ["read"], NOW), names))
    found = read_tokens(file)
    assert {one.name for one in found.entries} == set(names)
    assert all(found.entry_of(token.encode()) for token in tokens)
    assert [path.name for path in file.parent.iterdir()] == ["tokens.json"]


def test_a_link_stays_one(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    add_token(link, "a", ["read"], NOW)
    assert link.is_symlink() and len(read_tokens(file).entries) == 1


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o620, 0o644, 0o666, 0o777])
def test_a_file_that_others_may_read_or_change_is_refused(file: Path, mode: int) -> None:
    add_token(file, "a", ["read"], NOW)
    file.chmod(mode)
    with pytest.raises(SettingsError, match=f"has the mode 0{mode:o}.*chmod 600"):
        read_tokens(file)
    with pytest.raises(SettingsError, match="has the mode"):
        add_token(file, "b", ["read"], NOW)
    file.chmod(0o640)
    assert len(read_tokens(file).entries) == 1


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "truncated"),
        ("[]", "Expected `object`"),
        ('{"tokens":[{}]}', "missing required field `name`"),
        (json.dumps({"tokens": [{**ROW, "scope": "read"}]}), "unknown field `scope`"),
        (json.dumps({"tokens": [{**ROW, "may": []}]}), r"may must be some of read, write, admin"),
        (json.dumps({"tokens": [{**ROW, "may": ["all"]}]}), r"may must be .* - at `\$.tokens\[0\]"),
        (json.dumps({"tokens": [{**ROW, "name": "a\nb"}]}), "the name is not one"),
        (json.dumps({"tokens": [{**ROW, "sha256": "ab"}]}), "64 hexadecimal digits"),
        (json.dumps({"tokens": [{**ROW, "sha256": "xy" * 32}]}), "64 hexadecimal digits"),
        (json.dumps({"tokens": [ROW, {**ROW, "name": "b"}]}), "a token stands in it twice"),
        (json.dumps({"tokens": [ROW, {**ROW, "sha256": "cd" * 32}]}), "have the same name"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(file: Path, content: str, why: str) -> None:
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(SettingsError, match=f"the tokens file .* is not valid: .*{why}"):
        read_tokens(file)


def test_a_file_that_is_none_or_too_large(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        read_tokens(file)
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        revoke_token(file, "a", NOW)
    assert not file.exists()
    with pytest.raises(SettingsError, match="cannot be written: No such file"):
        add_token(file.parent / "gone" / "t", "a", ["read"], NOW)
    monkeypatch.setattr(limits, "TOKENS_FILE_BYTES_MAX", 10)
    add_token(file, "a", ["read"], NOW)
    with pytest.raises(SettingsError, match="has more than 10 bytes"):
        read_tokens(file)


def test_a_token_is_no_name_and_is_not_told(file: Path) -> None:
    token = new_token()
    # 53 letters, digits and a low line: by its characters it would be one.
    for name in ("", "a b", "x" * 65, "é", "a/b"):
        with pytest.raises(SettingsError, match="cannot be named so: 1 to 64"):
            add_token(file, name, ["read"], NOW)
    with pytest.raises(SettingsError) as caught:
        add_token(file, token, ["read"], NOW)
    assert token not in str(caught.value)
    assert not file.exists()
