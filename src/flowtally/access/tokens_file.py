"""The tokens file: JSON with a name, scopes and the SHA-256 of each token, mode 0600.

It is replaced as a whole, so whoever reads it sees it before a change or after it. Two processes
that change it wait for each other by a lock on its folder.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from flowtally import limits
from flowtally.access.private_file import read_private
from flowtally.access.tokens import (
    NAME,
    SCOPES,
    TokenEntry,
    TokenSet,
    digest_of,
    is_token,
    new_token,
)
from flowtally.disk import sync_folder
from flowtally.errors import SettingsError

_MODE = 0o600
_WHAT = "the tokens file"


class _Entry(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    name: str
    may: list[str]
    sha256: str
    created: str
    revoked: str | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    tokens: list[_Entry]


def read_tokens(path: Path) -> TokenSet:
    """The tokens of a file. Raises `SettingsError` saying what is wrong with it."""
    return TokenSet(_read(path))


def add_token(path: Path, name: str, may: Sequence[str], now: str) -> str:
    """Makes a token, and the file where there is none; returns the token, which is kept nowhere."""
    if is_token(name):
        raise SettingsError("a token cannot be named so: that is a token itself")
    if NAME.fullmatch(name) is None:
        raise SettingsError("a token cannot be named so: 1 to 64 of A-Z a-z 0-9 . _ - are a name")
    token = new_token()

    def added(entries: list[TokenEntry]) -> list[TokenEntry]:
        if any(entry.name == name and entry.revoked is None for entry in entries):
            raise SettingsError(
                f"there is a token {name} already; take another name, or revoke that one first"
            )
        if sum(entry.revoked is None for entry in entries) >= limits.TOKENS_MAX:
            raise SettingsError(f"{path} has {limits.TOKENS_MAX} tokens, and no more are kept")
        return [*entries, TokenEntry(name, frozenset(may), digest_of(token), now)]

    _change(path, added, make=True)
    return token


def revoke_token(path: Path, name: str, now: str) -> None:
    """Makes a token invalid. Its name stays, for whoever still uses it to be found."""

    def revoked(entries: list[TokenEntry]) -> list[TokenEntry]:
        if not any(entry.name == name and entry.revoked is None for entry in entries):
            raise SettingsError(f"{path} has no valid token of that name")
        return [
            TokenEntry(entry.name, entry.may, entry.sha256, entry.created, entry.revoked or now)
            if entry.name == name
            else entry
            for entry in entries
        ]

    _change(path, revoked, make=False)


def _read(path: Path) -> list[TokenEntry]:
    content = read_private(path, _WHAT, limits.TOKENS_FILE_BYTES_MAX)
    try:
        return _entries(msgspec.json.decode(content, type=_File).tokens)
    except (msgspec.DecodeError, ValueError) as error:
        raise SettingsError(f"{_WHAT} {path} is not valid: {error}") from error


def _entries(found: list[_Entry]) -> list[TokenEntry]:
    entries: list[TokenEntry] = []
    for at, one in enumerate(found):
        where = f"`$.tokens[{at}]`"
        if NAME.fullmatch(one.name) is None or is_token(one.name):
            raise ValueError(f"the name is not one - at {where}")
        if not one.may or not set(one.may) <= set(SCOPES):
            raise ValueError(f"may must be some of {', '.join(SCOPES)} - at {where}")
        try:
            sha256 = bytes.fromhex(one.sha256)
        except ValueError:
            sha256 = b""
        if len(sha256) != 32:
            raise ValueError(f"sha256 must be 64 hexadecimal digits - at {where}")
        entries.append(TokenEntry(one.name, frozenset(one.may), sha256, one.created, one.revoked))
    valid = [entry.name for entry in entries if entry.revoked is None]
    if len(set(valid)) < len(valid):
        raise ValueError("two valid tokens have the same name")
    if len({entry.sha256 for entry in entries}) < len(entries):
        raise ValueError("a token stands in it twice")
    return entries


def _change(path: Path, change: Callable[[list[TokenEntry]], list[TokenEntry]], make: bool) -> None:
    # Where it is a link, what it leads to is replaced, and not the link.
    target = path.resolve()
    try:
        with _locked(target.parent):
            entries = [] if make and not target.exists() else _read(path)
            _write(target, _fewer_revoked(change(entries)))
    except OSError as error:
        raise SettingsError(f"{_WHAT} {path} cannot be written: {error.strerror}") from error


def _fewer_revoked(entries: list[TokenEntry]) -> list[TokenEntry]:
    """Without the longest revoked ones, where there are too many."""
    revoked = sorted(entry.revoked for entry in entries if entry.revoked is not None)
    if len(revoked) <= limits.TOKENS_REVOKED_MAX:
        return entries
    oldest = revoked[-limits.TOKENS_REVOKED_MAX]
    return [entry for entry in entries if entry.revoked is None or entry.revoked >= oldest]


def _write(path: Path, entries: Sequence[TokenEntry]) -> None:
    rows = [
        _Entry(one.name, sorted(one.may), one.sha256.hex(), one.created, one.revoked)
        for one in entries
    ]
    content = msgspec.json.format(msgspec.json.encode(_File(rows)), indent=1) + b"\n"
    # Made with mode 0600 from the start.
    number, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "wb") as file:
            _keep_owner(path, file.fileno())
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(made, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(made)
        raise
    sync_folder(path.parent)


def _keep_owner(path: Path, number: int) -> None:
    """An administrator who changes the file must not take it away from the service."""
    os.fchmod(number, _MODE)
    with suppress(FileNotFoundError):
        found = path.stat()
        if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(number, found.st_uid, found.st_gid)
            os.fchmod(number, _MODE | (found.st_mode & 0o040))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)
