"""`flowtally check`: each setting with its source."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from flowtally.config import Settings, load
from tests.unit.cli.conftest import Call

GOLDEN = """\
store                      memory                                   FLOWTALLY_STORE
data                       data                                     default
sql_url                    sqlite+aiosqlite:///{data}/flows.sqlite  default
snapshot_interval_s        0.0                                      default
memory_flows_max           20000000                                 default
aggregate_interval_s       3600.0                                   default
host                       0.0.0.0                                  --host
port                       9000                                     flowtally.toml
insecure                   true                                     --insecure
tokens                     none                                     default
tls_certificate            none                                     default
tls_key                    none                                     default
rate_limit_requests_per_s  0.0                                      default
rate_limit_burst_requests  100                                      default
retention_hours            168                                      default
batch_ids_keep_hours       24                                       default
request_deadline_s         30.0                                     default
in_flight_bytes_max        268435456                                default
pending_bytes_max          1073741824                               default
log_format                 auto                                     default
log_level                  info                                     default
log_levels                                                          default
access_log                 false                                    --access-log
kernel                     true                                     default
"""


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    Path("flowtally.toml").write_text('port = 9000\nhost = "::1"\n')
    monkeypatch.setenv("FLOWTALLY_STORE", "memory")
    monkeypatch.delenv("FLOWTALLY_KERNEL", raising=False)
    return ["--host", "0.0.0.0", "--insecure", "--no-access-log"]


def test_it_names_the_source_of_each(call: Call, settings: list[str]) -> None:
    ended = call("check", *settings)
    assert (ended.code, ended.err, ended.out) == (0, "", GOLDEN)


def test_toml_can_be_read_back(call: Call, settings: list[str]) -> None:
    ended = call("check", "--format", "toml", *settings)
    assert ended.code == 0
    assert tomllib.loads(ended.out)["data"] == "data"
    assert "port = 9000  # flowtally.toml" in ended.lines
    Path("copy.toml").write_text(ended.out)
    assert load({}, {}, Path("copy.toml")).settings == replace(
        Settings(), store="memory", host="0.0.0.0", port=9000, insecure=True, access_log=False
    )


def test_what_is_wrong_is_told_at_once_and_2(call: Call, settings: list[str]) -> None:
    Path("flowtally.toml").write_text("prot = 1\n")
    ended = call("check", "--port", "x", "--config", "flowtally.toml")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines() == [
        "flowtally: 2 settings cannot be used:",
        "  there is no setting 'prot' (flowtally.toml); did you mean port?",
        "  port must be a whole number from 0 to 65,535, not 'x' (--port)",
    ]


def test_the_files_that_it_names_are_looked_at(call: Call, settings: list[str]) -> None:
    ended = call("check", *settings, "--tokens", "gone.json")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "flowtally: the tokens file gone.json cannot be read: No such file or directory\n"
    )
    call("token", "add", "agents", "--may", "write", "--tokens", "t.json")
    assert call("check", *settings, "--tokens", "t.json").code == 0
    Path("t.json").chmod(0o604)
    ended = call("check", *settings, "--tokens", "t.json")
    assert ended.code == 2
    assert "has the mode 0604, which lets others read or change it; chmod 600 t.json" in ended.err


def test_open_doors_are_told(call: Call) -> None:
    ended = call("check", "--host", "0.0.0.0")
    assert ended.code == 2
    assert "flowtally token add NAME --may write --tokens FILE" in ended.err
    assert "--tls-certificate FILE" in ended.err


def test_a_password_is_masked(call: Call, settings: list[str]) -> None:
    url = "postgresql+psycopg://u:s3cret@host/db"
    for output in ("table", "toml"):
        ended = call("check", *settings, "--sql-url", url, "--format", output)
        assert ended.code == 0
        assert "s3cret" not in ended.out
        assert "postgresql+psycopg://u:***@host/db" in ended.out
