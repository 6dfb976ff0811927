"""Settings: what wins, where it came from, and what is said of what cannot be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from flowtally.access.tokens import new_token
from flowtally.config import Settings, load, table, without_password
from flowtally.errors import SettingsError

NO_TOKENS = (
    "nothing asks clients who they are (make a token: flowtally token add NAME --may write --tokens"
    " FILE, then serve with --tokens FILE)"
)
NO_TLS = "what they send can be read on the way (serve with --tls-certificate FILE --tls-key FILE)"
TRUSTED = "or use 127.0.0.1, or --insecure if the network itself is trusted"
REACHED = "can be reached from other machines, and"
LOOPBACK_HINT = f"{REACHED} {NO_TOKENS}; and {NO_TLS}; {TRUSTED}"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fault_of(flags: Mapping[str, object], environ: Mapping[str, str], file: str = "") -> str:
    Path("flowtally.toml").write_text(file)
    with pytest.raises(SettingsError) as caught:
        load(flags, environ)
    return str(caught.value)


def test_without_anything_all_is_default() -> None:
    loaded = load({}, {"HOME": "/"})
    assert loaded.settings == Settings()
    assert set(loaded.sources) == {row.name for row in table()}
    assert set(loaded.sources.values()) == {"default"}


def test_a_flag_beats_a_variable_beats_the_file_beats_the_default() -> None:
    Path("flowtally.toml").write_text(
        'port = 1\nstore = "memory"\nretention_hours = 1\nrequest_deadline_s = 5\n'
    )
    environ = {"FLOWTALLY_PORT": "2", "FLOWTALLY_STORE": "duckdb", "FLOWTALLY_ACCESS_LOG": "no"}
    loaded = load({"port": "3", "data": Path("there"), "host": None}, environ)
    assert loaded.settings == replace(
        Settings(),
        port=3,
        store="duckdb",
        retention_hours=1,
        request_deadline_s=5.0,
        access_log=False,
        data=Path("there"),
    )
    assert {name: source for name, source in loaded.sources.items() if source != "default"} == {
        "port": "--port",
        "store": "FLOWTALLY_STORE",
        "access_log": "FLOWTALLY_ACCESS_LOG",
        "retention_hours": "flowtally.toml",
        "request_deadline_s": "flowtally.toml",
        "data": "--data",
    }


def test_a_file_can_be_named_by_flag_or_by_variable() -> None:
    Path("a.toml").write_text("port = 1")
    Path("b").write_text("port = 2")
    environ = {"FLOWTALLY_CONFIG": "b"}
    for loaded, port, source in (
        (load({}, environ, Path("a.toml")), 1, "a.toml"),
        (load({}, environ), 2, "b"),
    ):
        assert (loaded.settings.port, loaded.sources["port"]) == (port, source)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("port", "0", 0),
        ("port", "65535", 65535),
        ("insecure", "TRUE", True),
        ("access_log", "0", False),
        ("request_deadline_s", "0.1", 0.1),
        ("data", "a b", Path("a b")),
        ("log_format", "json", "json"),
        ("host", "::1", "::1"),
        ("host", "127.8.9.1", "127.8.9.1"),
        ("host", "localhost", "localhost"),
    ],
)
def test_text_that_can_be_used(name: str, value: str, expected: object) -> None:
    assert getattr(load({name: value}, {}).settings, name) == expected


@pytest.mark.parametrize(
    ("name", "value", "demand"),
    [
        ("port", "65536", "a whole number from 0 to 65,535"),
        ("port", "-1", "a whole number from 0 to 65,535"),
        ("port", "80.0", "a whole number from 0 to 65,535"),
        ("port", "", "a whole number from 0 to 65,535"),
        ("retention_hours", "0", "a whole number of hours from 1 to 87,840"),
        ("batch_ids_keep_hours", "23", "a whole number of hours from 24 to 8,784"),
        ("request_deadline_s", "nan", "a number of seconds from 0.1 to 3,600"),
        ("request_deadline_s", "inf", "a number of seconds from 0.1 to 3,600"),
        ("insecure", "maybe", "true or false"),
        ("store", "Memory", "one of duckdb, hourly, sql, memory"),
        ("log_level", "loud", "one of debug, info, warning, error"),
        ("host", "", "text"),
        ("data", "", "a path"),
    ],
)
def test_text_that_breaks_a_rule(name: str, value: str, demand: str) -> None:
    variable = f"FLOWTALLY_{name.upper()}"
    assert fault_of({}, {variable: value}) == f"{name} must be {demand}, not {value!r} ({variable})"
    flag = "--" + name.replace("_", "-")
    assert fault_of({name: value}, {}) == f"{name} must be {demand}, not {value!r} ({flag})"


def test_levels_of_components() -> None:
    Path("flowtally.toml").write_text('log_levels = "journal=debug"')
    assert load({}, {}).settings.log_levels == "journal=debug"
    assert load({}, {"FLOWTALLY_LOG_LEVELS": ""}).settings.log_levels == ""
    assert fault_of({"log_levels": "jornal=debug"}, {}) == (
        "log_levels must be COMPONENT=LEVEL pairs with commas between them, such as"
        " journal=debug,access=off, not 'jornal=debug': there is no component 'jornal'; did you"
        " mean journal? (--log-levels)"
    )
    assert fault_of({}, {}, "log_levels = 1").endswith(": it is of another type (flowtally.toml)")


def test_the_same_sources_can_be_looked_at_again() -> None:
    Path("there.toml").write_text("port = 1")
    environ = {"FLOWTALLY_STORE": "memory"}
    loaded = load({"retention_hours": "2"}, environ, Path("there.toml"))
    Path("there.toml").write_text("port = 2\nretention_hours = 3")
    again = loaded.load_again()
    assert again.settings == replace(loaded.settings, port=2)
    assert again.sources["retention_hours"] == "--retention-hours"
    Path("there.toml").write_text("prot = 2")
    with pytest.raises(SettingsError, match="did you mean port"):
        again.load_again()


@pytest.mark.parametrize(
    "line",
    [
        'port = "8080"',
        "port = true",
        "port = 8080.0",
        "port = [1]",
        "data = 5",
        "access_log = 1",
        'access_log = "true"',
        "request_deadline_s = true",
        "request_deadline_s = nan",
        "host = 1",
    ],
)
def test_a_file_must_have_the_right_types(line: str) -> None:
    name = line.split()[0]
    fault = fault_of({}, {}, line)
    assert fault.startswith(f"{name} must be ")
    assert fault.endswith(" (flowtally.toml)")


@pytest.mark.parametrize(
    ("environ", "file", "fault"),
    [
        (
            {"FLOWTALLY_PROT": "1"},
            "",
            "there is no setting FLOWTALLY_PROT (environment); did you mean FLOWTALLY_PORT?",
        ),
        (
            {"FLOWTALLY_port": "1"},
            "",
            "there is no setting FLOWTALLY_port (environment); did you mean FLOWTALLY_PORT?",
        ),
        (
            {},
            "retention_hour = 1",
            "there is no setting 'retention_hour' (flowtally.toml); did you mean retention_hours?",
        ),
        ({}, "[zebra]\nx = 1", "there is no setting 'zebra' (flowtally.toml)"),
        ({"FLOWTALLY_CONFIG": "gone"}, "", "gone cannot be read: No such file or directory"),
    ],
)
def test_what_is_unknown_is_told_with_the_nearest_name(
    environ: dict[str, str], file: str, fault: str
) -> None:
    assert fault_of({}, environ, file) == fault


def test_a_file_that_is_no_toml() -> None:
    assert fault_of({}, {}, "port 1").startswith("flowtally.toml is not valid TOML: ")
    deep = "port = " + "[" * 10_000
    assert fault_of({}, {}, deep).startswith("flowtally.toml is not valid TOML: ")


def test_a_number_beyond_every_number() -> None:
    """It is told like any other, also to whoever reloads."""
    for name in ("request_deadline_s", "retention_hours"):
        assert fault_of({}, {}, f"{name} = {'9' * 400}").startswith(f"{name} must be a ")
    Path("latin").write_bytes(b'host = "\xff"')
    with pytest.raises(SettingsError, match="latin is not valid TOML"):
        load({}, {}, Path("latin"))


def test_variables_that_are_no_settings_are_let_be() -> None:
    assert load({}, {"FLOWTALLY_URL": "http://x", "FLOWTALLYX": "1", "PORT": "x"})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.test"])
def test_a_door_to_the_network_is_opened_only_on_purpose(host: str) -> None:
    assert fault_of({"host": host}, {}) == f"host {host} (--host) {LOOPBACK_HINT}"
    named = {"host": host, "tokens": "t", "tls_certificate": "c", "tls_key": "k"}
    assert load(named, {}).settings.host == host
    assert fault_of({"host": host, "tokens": "t"}, {}) == (
        f"host {host} (--host) {REACHED} {NO_TLS}; {TRUSTED}"
    )
    assert fault_of({**named, "tokens": None}, {}) == (
        f"host {host} (--host) {REACHED} {NO_TOKENS}; {TRUSTED}"
    )
    assert load({"host": host, "insecure": True}, {}).settings.host == host
    # Whoever only reads settings opens no door.
    assert load({"host": host}, {}, serves=False).settings.host == host


@pytest.mark.parametrize(
    ("given", "other"), [("tls_certificate", "tls_key"), ("tls_key", "tls_certificate")]
)
def test_a_certificate_and_its_key_are_of_use_together_alone(given: str, other: str) -> None:
    flag = "--" + given.replace("_", "-")
    assert fault_of({given: "x"}, {}) == f"{given} ({flag}) is of no use without {other}"


def test_a_token_in_the_place_of_their_file_is_not_shown() -> None:
    token = new_token()
    for flags, environ, source in (
        ({}, {"FLOWTALLY_TOKENS": token}, "FLOWTALLY_TOKENS"),
        ({"tokens": token}, {}, "--tokens"),
    ):
        fault = fault_of(flags, environ)
        assert fault.startswith(f"tokens ({source}) names the file of a service's tokens, and is a")
        assert token[:12] not in fault
    assert "port must be a whole number" in (fault := fault_of({}, {"FLOWTALLY_PORT": token}))
    assert token[:12] not in fault


def test_all_faults_are_told_at_once() -> None:
    fault = fault_of(
        {"host": "0.0.0.0"},
        {"FLOWTALLY_PORT": "x", "FLOWTALLY_STOR": "y"},
        "retention_hours = 0\nport = 99999\n",
    )
    assert fault.splitlines() == [
        "5 settings cannot be used:",
        "  retention_hours must be a whole number of hours from 1 to 87,840,"
        " not 0 (flowtally.toml)",
        "  port must be a whole number from 0 to 65,535, not 99999 (flowtally.toml)",
        "  port must be a whole number from 0 to 65,535, not 'x' (FLOWTALLY_PORT)",
        "  there is no setting FLOWTALLY_STOR (environment); did you mean FLOWTALLY_STORE?",
        f"  host 0.0.0.0 (--host) {LOOPBACK_HINT}",
    ]


def test_every_setting_says_what_it_is() -> None:
    for row in table():
        assert row.rule.about and row.rule.about[0].islower()
        if row.kind in (int, float):
            assert row.rule.least is not None
            assert row.rule.most is not None
            assert row.rule.least <= row.default <= row.rule.most


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://u:s3cret@host/db", "postgresql+psycopg://u:***@host/db"),
        ("postgresql+psycopg://u:s3@cret:x@host/db", "postgresql+psycopg://u:***@host/db"),
        ("postgresql+psycopg://u@host/db", "postgresql+psycopg://u@host/db"),
        ("mysql://u:s3cret@host", "mysql://u:***@host"),
        ("mysql://u:s3://cret@host", "mysql://u:***@host"),
        ("u:s3cret@host", "u:***@host"),
        ("postgresql+psycopg://h/db?password=s3cret&x=1", "postgresql+psycopg://h/db?password=***&x=1"),
        ("postgresql+psycopg://h/db?sslpassword=s3cret", "postgresql+psycopg://h/db?sslpassword=***"),
        ("sqlite+aiosqlite:///a/b.sqlite", "sqlite+aiosqlite:///a/b.sqlite"),
    ],
)  # fmt: skip
def test_a_password_is_shown_nowhere(url: str, shown: str) -> None:
    assert without_password(url) == shown
    row = next(row for row in table() if row.name == "sql_url")
    assert row.public(url) == shown


def test_a_url_that_cannot_be_used_is_told_without_its_password() -> None:
    demand = "a URL that begins with sqlite+aiosqlite:/// or postgresql+psycopg://"
    assert fault_of({}, {"FLOWTALLY_SQL_URL": "mysql://u:s3cret@host/db"}) == (
        f"sql_url must be {demand}, not 'mysql://u:***@host/db' (FLOWTALLY_SQL_URL)"
    )
