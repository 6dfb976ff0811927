"""Where the database is: the URL that the operator gave, and how it may be spoken of.

A password in it goes to the driver and nowhere else: whatever is logged, told or shown comes from
`shown` and `told`, which do not have it.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from flowtally.errors import SettingsError

SQLITE = "sqlite+aiosqlite"
POSTGRES = "postgresql+psycopg"
_MASK = "***"


class DatabaseFault(Exception):
    """What a database said, without the password; the cause of what is raised for it."""


class Address:
    """A URL that can be used. Raises `SettingsError` for one that cannot."""

    def __init__(self, sql_url: str, data: Path) -> None:
        try:
            self.url: URL = make_url(sql_url.replace("{data}", str(data)))
        except (ArgumentError, ValueError):
            # Without the cause: it quotes the whole text, and with it the password.
            raise SettingsError("sql_url is not a URL that can be read") from None
        if self.url.drivername not in (SQLITE, POSTGRES):
            raise SettingsError(
                f"sql_url must begin with {SQLITE}:// or {POSTGRES}://,"
                f" not {self.url.drivername}://"
            )
        if self.is_sqlite and not _is_file(self.url):
            raise SettingsError("sql_url must name a file: the sums are to be kept")
        if not self.is_sqlite and "@" in f"{self.url.host}{self.url.database}":
            # What follows the first @ was taken for the host, and would be shown as such.
            raise SettingsError("an @ in the user or password of sql_url is written %40")

    @property
    def is_sqlite(self) -> bool:
        """SQLite, or else PostgreSQL."""
        return self.url.drivername == SQLITE

    @property
    def path(self) -> Path:
        """SQLite's file."""
        assert self.url.database is not None
        return Path(self.url.database)

    @property
    def shown(self) -> str:
        """The URL for people to read: without its secrets."""
        query = {name: _MASK if _is_secret(name) else value for name, value in self._query()}
        text = self.url.set(query=query).render_as_string(hide_password=True)
        return text.replace(quote(_MASK), _MASK)

    def told(self, error: BaseException) -> str:
        """What an error says, in one line, without the password, whoever quoted it."""
        cause = getattr(error, "orig", None) or error
        text = " ".join(str(cause).split()) or type(cause).__name__
        for secret in self._secrets():
            text = text.replace(secret, _MASK)
        return text

    def masked(self, error: BaseException) -> Exception:
        """An error as the log may show it: where it was raised, and what it says, `told`. A driver
        may quote the password in its own."""
        kind = type(getattr(error, "orig", None) or error).__name__
        return DatabaseFault(f"{kind}: {self.told(error)}").with_traceback(error.__traceback__)

    def _query(self) -> list[tuple[str, str | tuple[str, ...]]]:
        return list(self.url.query.items())

    def _secrets(self) -> list[str]:
        found = [str(self.url.password)] if self.url.password else []
        for name, value in self._query():
            if _is_secret(name):
                found += [value] if isinstance(value, str) else value
        return [secret for secret in found if secret]


def _is_secret(name: str) -> bool:
    return "password" in name.lower()


def _is_file(url: URL) -> bool:
    return bool(url.database) and url.database != ":memory:" and not url.query
