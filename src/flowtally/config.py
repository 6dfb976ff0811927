"""Settings: one table, and where each value came from.

The fields of `Settings` are that table: the command line's flags, `flowtally check` and
`docs/reference/settings.md` are all made from it. Precedence: flags over `FLOWTALLY_*` environment
variables over `flowtally.toml` over defaults. An unknown key is an error with the nearest name; so
is a value that breaks its rule. All errors are told at once.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from flowtally import limits
from flowtally.access.tokens import is_token, without_tokens
from flowtally.errors import SettingsError
from flowtally.exposure import open_doors
from flowtally.observe.log_levels import parse_log_levels

ENVIRONMENT_PREFIX = "FLOWTALLY_"
FILE_NAME = "flowtally.toml"
CONFIG_VARIABLE = "FLOWTALLY_CONFIG"
URL_VARIABLE = "FLOWTALLY_URL"
TOKEN_VARIABLE = "FLOWTALLY_TOKEN"
TOKEN_FILE_VARIABLE = "FLOWTALLY_TOKEN_FILE"
CA_VARIABLE = "FLOWTALLY_CA"
DEFAULT = "default"
_NOT_SETTINGS = (
    CONFIG_VARIABLE,
    URL_VARIABLE,
    TOKEN_VARIABLE,
    TOKEN_FILE_VARIABLE,
    CA_VARIABLE,
)
_TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_SHOWN_MAX = 60
SQL_URL = "sqlite+aiosqlite:///{data}/flows.sqlite"
_SQL_URLS = ("sqlite+aiosqlite:///", "postgresql+psycopg://")
_PASSWORD_IN_QUERY = re.compile(r"([?&][^=&]*password[^=&]*=)[^&]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rule:
    """What a setting means, and which values it may have."""

    about: str
    unit: str = ""
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    begins: tuple[str, ...] = ()
    """It is a URL that begins with one of these, and may have a password in it."""
    parse: Callable[[str], object] | None = None
    """Reads what is written in it, and raises `ValueError` saying what is wrong; may be empty."""
    form: str = ""
    """... and what that looks like, in words."""


def _setting(
    default: Any,
    about: str,
    unit: str = "",
    *,
    least: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
    begins: tuple[str, ...] = (),
    parse: Callable[[str], object] | None = None,
    form: str = "",
) -> Any:
    rule = Rule(about, unit, least, most, choices, begins, parse, form)
    return field(default=default, metadata={"rule": rule})


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting of a service, with its default. Constructed by `load`, or by tests as it is."""

    store: str = _setting(
        "duckdb",
        "what keeps the sums: duckdb (on disk), hourly (on disk, summed on a schedule), sql (SQLite"
        " or PostgreSQL, see sql_url) or memory (nothing but snapshots is kept)",
        choices=("duckdb", "hourly", "sql", "memory"),
    )
    data: Path = _setting(Path("data"), "the data folder; a service makes it if it is missing")
    sql_url: str = _setting(
        SQL_URL,
        "the database of the sql store; {data} stands for the data folder, and a password in it is"
        " shown nowhere",
        begins=_SQL_URLS,
    )
    snapshot_interval_s: float = _setting(
        0.0,
        "how often the memory store writes a snapshot into the data folder; 0 is never, not even"
        " at a stop",
        "seconds",
        least=0,
        most=86_400,
    )
    memory_flows_max: int = _setting(
        limits.MEMORY_FLOWS_MAX,
        "how many flows the memory store holds, each once for every hour in which it came in; what"
        " is more is told to come back",
        "flows",
        least=1,
        most=1_000_000_000,
    )
    aggregate_interval_s: float = _setting(
        3_600.0,
        "how often the hourly store sums what came in; sooner once half of pending_bytes_max waits",
        "seconds",
        least=1,
        most=7 * 86_400,
    )
    host: str = _setting("127.0.0.1", "the address to listen on")
    port: int = _setting(8080, "the port to listen on; 0 takes a free one", least=0, most=65535)
    insecure: bool = _setting(
        False, "listen beyond this machine without tokens or without TLS: the network is trusted"
    )
    tokens: Path | None = _setting(
        None,
        "the file of the tokens that clients must have, made by `flowtally token add`; without one"
        " nobody is asked",
    )
    tls_certificate: Path | None = _setting(
        None,
        "the certificate, with those between it and its authority, as PEM; with it HTTPS alone"
        " is spoken",
    )
    tls_key: Path | None = _setting(None, "the private key of the certificate, as PEM")
    rate_limit_requests_per_s: float = _setting(
        0.0,
        "how many requests each token (without tokens, each address) may send in the long run; 0"
        " is any number",
        "requests a second",
        least=0,
        most=1_000_000,
    )
    rate_limit_burst_requests: int = _setting(
        100, "how many of them it may send at once", "requests", least=1, most=1_000_000
    )
    retention_hours: int = _setting(
        168, "how long a record is served after it came in", "hours", least=1, most=24 * 3660
    )
    batch_ids_keep_hours: int = _setting(
        24, "how long an Idempotency-Key is remembered", "hours", least=24, most=24 * 366
    )
    request_deadline_s: float = _setting(
        limits.REQUEST_DEADLINE_S, "how long one request may take", "seconds", least=0.1, most=3600
    )
    in_flight_bytes_max: int = _setting(
        limits.IN_FLIGHT_BYTES_MAX,
        "how much of bodies is taken and not yet answered; what is more is told to come back",
        "bytes",
        least=limits.BODY_BYTES_MAX,
        most=2**50,
    )
    pending_bytes_max: int = _setting(
        limits.PENDING_BYTES_MAX,
        "how much is journalled and not yet summed; what is more is told to come back",
        "bytes",
        least=limits.MIB,
        most=2**50,
    )
    log_format: str = _setting(
        "auto",
        "how log lines look; auto is human on a terminal and json elsewhere",
        choices=("auto", "human", "json"),
    )
    log_level: str = _setting(
        "info", "the least level that is logged", choices=("debug", "info", "warning", "error")
    )
    log_levels: str = _setting(
        "",
        "the least level that one component logs, where it is another; see"
        " docs/guides/logging.md for the components",
        parse=parse_log_levels,
        form="COMPONENT=LEVEL pairs with commas between them, such as journal=debug,access=off",
    )
    access_log: bool = _setting(True, "log a line for each request")
    kernel: bool = _setting(True, "use the native kernel, where it is built")


@dataclass(frozen=True, slots=True)
class Loaded:
    """The effective settings, and the source of each value: the flag, the variable, the file, or
    `default`."""

    settings: Settings
    sources: Mapping[str, str]
    load_again: Callable[[], Loaded] = field(compare=False)
    """Looks at the same sources once more, with `load`'s errors."""


@dataclass(frozen=True, slots=True)
class Row:
    """One setting, as the table has it."""

    name: str
    default: Any
    rule: Rule

    @property
    def flag(self) -> str:
        """Its command-line flag."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def kind(self) -> type:
        """The type of its values: bool, int, float, str or Path."""
        return Path if isinstance(self.default, Path | None) else type(self.default)

    @property
    def demand(self) -> str:
        """The rule in words, to stand behind "must be"."""
        rule = self.rule
        if rule.form:
            return rule.form
        if rule.choices:
            return f"one of {', '.join(rule.choices)}"
        if self.kind is bool:
            return "true or false"
        if self.kind is Path:
            return "a path"
        if rule.begins:
            return f"a URL that begins with {' or '.join(rule.begins)}"
        if self.kind is str:
            return "text"
        number = "a whole number" if self.kind is int else "a number"
        unit = f" of {rule.unit}" if rule.unit else ""
        return f"{number}{unit} from {rule.least:,} to {rule.most:,}"

    def public(self, value: object) -> object:
        """The value as everybody may see it."""
        return without_password(value) if self.rule.begins and isinstance(value, str) else value


def without_password(url: str) -> str:
    """A URL, or what was given for one, with its passwords masked."""
    url = _PASSWORD_IN_QUERY.sub(r"\1***", url)
    before, at, host = url.rpartition("@")
    # The first: in a password it may stand again.
    scheme, mark, login = before.partition("://")
    if not mark:
        scheme, login = "", before
    user, colon, _ = login.partition(":")
    return f"{scheme}{mark}{user}:***{at}{host}" if colon else url


def table() -> tuple[Row, ...]:
    """All settings, in the order in which they are shown."""
    return tuple(Row(one.name, one.default, one.metadata["rule"]) for one in fields(Settings))


def load(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    file: Path | None = None,
    serves: bool = True,
) -> Loaded:
    """The effective settings. `file`, or the one that FLOWTALLY_CONFIG names, must be there; else
    `flowtally.toml` is read where it exists. Raises `SettingsError` naming every fault; whether
    the doors are shut well is of interest where something `serves` alone."""
    rows = {row.name: row for row in table()}
    sources = dict.fromkeys(rows, DEFAULT)
    values: dict[str, Any] = {}
    faults: list[str] = []
    given_flags = [(name, rows[name].flag, value) for name, value in flags.items()]
    for found, is_text in (
        (_in_file(file, environ, faults), False),
        (_in_environment(environ, faults), True),
        ((flag for flag in given_flags if flag[2] is not None), True),
    ):
        for name, source, given in found:
            try:
                values[name] = _checked(rows[name], given, is_text)
                sources[name] = source
            except ValueError as error:
                row = rows[name]
                shown = _shown(row.public(given))
                why = f": {error}" if row.rule.parse else ""
                faults.append(f"{name} must be {row.demand}, not {shown}{why} ({source})")
    settings = Settings(**values)
    if is_token(str(settings.tokens)):
        faults.append(
            f"tokens ({sources['tokens']}) names the file of a service's tokens, and is a token"
            f" itself; a client has that in {TOKEN_VARIABLE}"
        )
    if serves:
        faults += open_doors(settings, sources)
    if faults:
        lead = "" if len(faults) == 1 else f"{len(faults)} settings cannot be used:\n  "
        raise SettingsError(lead + "\n  ".join(faults))
    return Loaded(settings, sources, partial(load, flags, environ, file, serves))


def _in_file(
    file: Path | None, environ: Mapping[str, str], faults: list[str]
) -> Iterator[tuple[str, str, object]]:
    named = file or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    path = named or Path(FILE_NAME)
    if named is None and not path.exists():
        return
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        faults.append(f"{path} cannot be read: {error.strerror}")
        return
    except (ValueError, RecursionError) as error:
        faults.append(f"{path} is not valid TOML: {error}")
        return
    known = [row.name for row in table()]
    for name, value in found.items():
        if name in known:
            yield name, str(path), value
        else:
            faults.append(f"there is no setting {_shown(name)} ({path}){_nearest(name, known)}")


def _in_environment(
    environ: Mapping[str, str], faults: list[str]
) -> Iterator[tuple[str, str, object]]:
    names = {row.variable: row.name for row in table()}
    for variable, value in environ.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in _NOT_SETTINGS:
            continue
        if variable in names:
            yield names[variable], variable, value
        else:
            hint = _nearest(variable.upper(), [*names, *_NOT_SETTINGS])
            faults.append(f"there is no setting {variable} (environment){hint}")


def _nearest(name: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def _checked(row: Row, given: object, is_text: bool) -> object:
    """The value in the setting's type. Raises `ValueError` where it breaks the rule.

    Flags and variables are text and are parsed; a file gives types, and those must fit.
    """
    value = _parsed(row.kind, given) if is_text and isinstance(given, str) else given
    if row.kind is float and type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            raise ValueError("it is beyond every number") from None
    if row.kind is Path and isinstance(value, str):
        value = Path(value) if value else None
    rule = row.rule
    if not isinstance(value, row.kind) or (isinstance(value, bool) and row.kind is not bool):
        raise ValueError("it is of another type")
    if rule.parse is not None:
        rule.parse(str(value))
    elif isinstance(value, str) and (not value or (rule.choices and value not in rule.choices)):
        raise ValueError
    if rule.begins and not str(value).startswith(rule.begins):
        raise ValueError
    if rule.least is not None and rule.most is not None:
        assert isinstance(value, (int, float))
        # What is no number lies between no bounds.
        if not rule.least <= value <= rule.most:
            raise ValueError
    return value


def _parsed(kind: type, text: str) -> object:
    if kind is bool:
        return _TRUTHS.get(text.lower())
    if kind is int or kind is float:
        return kind(text)
    return text


def _shown(value: object) -> str:
    text = without_tokens(repr(str(value) if isinstance(value, Path) else value))
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."
