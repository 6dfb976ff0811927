"""Settings: one table, and where each value came from.

Precedence: command-line flags over `FLOWTALLY_*` environment variables over `flowtally.toml` over
defaults. An unknown key is an error with the nearest name; so is a value that breaks its rule. All
errors are told at once.
"""

from __future__ import annotations

import difflib
import ipaddress
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from flowtally import limits
from flowtally.errors import SettingsError

ENVIRONMENT_PREFIX = "FLOWTALLY_"
FILE_NAME = "flowtally.toml"
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_NOT_SETTINGS = ("FLOWTALLY_CONFIG", "FLOWTALLY_URL")


def _setting(
    default: Any,
    about: str,
    *,
    least: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    return field(
        default=default,
        metadata={"about": about, "least": least, "most": most, "choices": choices},
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting of a service, with its default. Constructed by `load`, or by tests as it is."""

    store: str = _setting(
        "duckdb",
        "what keeps the sums: duckdb (on disk) or memory (nothing is kept)",
        choices=("duckdb", "memory"),
    )
    data: Path = _setting(Path("data"), "the data folder; made if it is missing")
    host: str = _setting("127.0.0.1", "the address to listen on")
    port: int = _setting(
        8080, "the port to listen on; 0 takes a free one", least=0, most=65535
    )
    insecure: bool = _setting(
        False, "listen beyond this machine although nothing asks clients who they are"
    )
    retention_hours: int = _setting(
        168, "how long a record is served after it came in", least=1, most=24 * 3660
    )
    batch_ids_keep_hours: int = _setting(
        24, "how long an Idempotency-Key is remembered", least=24, most=24 * 366
    )
    request_deadline_s: float = _setting(
        limits.REQUEST_DEADLINE_S, "how long one request may take", least=0.1, most=3600
    )
    in_flight_bytes_max: int = _setting(
        limits.IN_FLIGHT_BYTES_MAX,
        "bytes of bodies taken and not yet answered; more are told to come back",
        least=limits.BODY_BYTES_MAX,
    )
    pending_bytes_max: int = _setting(
        limits.PENDING_BYTES_MAX,
        "bytes journalled and not yet summed; more are told to come back",
        least=limits.MIB,
    )
    log_format: str = _setting(
        "auto",
        "human, json, or auto: human on a terminal",
        choices=("auto", "human", "json"),
    )
    log_level: str = _setting(
        "info",
        "the least level that is logged",
        choices=("debug", "info", "warning", "error"),
    )
    access_log: bool = _setting(True, "log a line for each request")


@dataclass(frozen=True, slots=True)
class Loaded:
    """The effective settings, and the source of each value."""

    settings: Settings
    sources: Mapping[str, str]


def load(
    flags: Mapping[str, object], environ: Mapping[str, str], file: Path | None = None
) -> Loaded:
    """The effective settings. `file` is one that must be there; else `flowtally.toml` is read where
    it exists. Raises `SettingsError` naming every fault."""
    faults: list[str] = []
    values: dict[str, object] = {}
    sources = {one.name: "default" for one in fields(Settings)}
    for source, found in (
        _file_values(file, faults),
        _environment_values(environ, faults),
        ("flag", {name: value for name, value in flags.items() if value is not None}),
    ):
        for name, value in found.items():
            key = (
                f"{ENVIRONMENT_PREFIX}{name.upper()}"
                if source == "environment"
                else name
            )
            try:
                values[name] = _checked(name, value)
                sources[name] = source
            except ValueError as error:
                faults.append(f"{key} ({source}): {error}")
    if faults:
        raise SettingsError("; ".join(faults))
    settings = Settings(**values)  # type: ignore[arg-type]
    _refuse_open_door(settings)
    return Loaded(settings, sources)


def flag_of(name: str) -> str:
    """The command-line flag of a setting."""
    return "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return ENVIRONMENT_PREFIX + name.upper()


def _file_values(file: Path | None, faults: list[str]) -> tuple[str, dict[str, object]]:
    path = file or Path(FILE_NAME)
    if file is None and not path.exists():
        return str(path), {}
    try:
        found = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        faults.append(f"{path} cannot be read: {error}")
        return str(path), {}
    return str(path), {
        name: found[name] for name in found if _is_known(name, str(path), faults)
    }


def _environment_values(
    environ: Mapping[str, str], faults: list[str]
) -> tuple[str, dict[str, object]]:
    found: dict[str, object] = {}
    for variable, value in environ.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in _NOT_SETTINGS:
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if _is_known(name, "environment", faults):
            found[name] = value
    return "environment", found


def _is_known(name: str, source: str, faults: list[str]) -> bool:
    names = [one.name for one in fields(Settings)]
    if name in names:
        return True
    nearest = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    faults.append(f"{name} ({source}): there is no such setting{hint}")
    return False


def _checked(name: str, value: object) -> object:
    """The value in the setting's type, or `ValueError` with the rule it breaks."""
    one = next(one for one in fields(Settings) if one.name == name)
    kind = type(one.default)
    converted = _converted(kind, value)
    choices, least, most = (one.metadata[key] for key in ("choices", "least", "most"))
    if choices and converted not in choices:
        raise ValueError(f"must be one of {', '.join(choices)}, not {value!r}")
    if least is not None and converted < least:
        raise ValueError(f"must be {least} or more, not {value!r}")
    if most is not None and converted > most:
        raise ValueError(f"must be {most} or less, not {value!r}")
    return converted


def _converted(kind: type, value: object) -> Any:
    if kind is bool:
        known = value if isinstance(value, bool) else _WORDS.get(str(value).lower())
        if known is None:
            raise ValueError(f"must be true or false, not {value!r}")
        return known
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Path)):
        raise ValueError(f"must be a {kind.__name__}, not {value!r}")
    if kind in (int, float):
        try:
            return kind(str(value))
        except ValueError:
            raise ValueError(f"must be a number, not {value!r}") from None
    return Path(str(value)) if issubclass(kind, Path) else str(value)


def _refuse_open_door(settings: Settings) -> None:
    if settings.insecure or settings.host == "localhost":
        return
    try:
        if ipaddress.ip_address(settings.host).is_loopback:
            return
    except ValueError:
        pass
    raise SettingsError(
        f"host {settings.host} can be reached from other machines, and nothing asks clients who"
        " they are; use 127.0.0.1, or --insecure if the network itself is trusted"
    )
