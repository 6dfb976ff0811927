"""Imports point one way (docs/architecture.md), also those inside functions."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from flowtally.wire.fields import NAME_FIELDS
from tests.repo.files import ROOT, modules, name_of, nodes_of

MODEL = ("model", "errors", "limits", "clock", "steps", "heartbeat")
ALLOWED: dict[str, tuple[str, ...]] = {
    "": (),
    **dict.fromkeys(MODEL, MODEL),
    "ports": MODEL,
    "wire": (*MODEL, "wire"),
    "ingest": ("", *MODEL, "ports", "wire", "ingest"),
    "disk": (),
    "stores": ("", *MODEL, "disk", "ports", "wire", "ingest", "stores"),
    "access": (*MODEL, "disk", "access"),
    "observe": ("", *MODEL, "ports", "access", "observe"),
    "api": ("", *MODEL, "ports", "wire", "ingest", "access", "observe", "api"),
    "config": (*MODEL, "observe", "access", "exposure"),
    "exposure": ("config",),
    "compose": (
        "",
        *MODEL,
        "ports",
        "wire",
        "ingest",
        "stores",
        "access",
        "observe",
        "api",
        "config",
    ),
    "client": (*MODEL, "disk", "wire", "client"),
    "importers": (*MODEL, "wire", "importers"),
    "cli": (
        "",
        *MODEL,
        "wire",
        "config",
        "exposure",
        "compose",
        "access",
        "observe",
        "api",
        "client",
        "importers",
        "cli",
    ),
}
"""What each room may import, by its first name; "" is the package itself."""
NO_IO = {"os", "socket", "pathlib", "sqlite3", "duckdb", "threading", "asyncio", "subprocess"}
SERVER = {"fastapi", "httptools", "duckdb", "pyarrow", "sqlite3", "uvloop", "prometheus_client"}
CLOCKS = {"time.time", "time.time_ns", "time.monotonic", "datetime.now", "date.today"}


@cache
def imported(path: Path) -> set[str]:
    """The dotted names that a module imports."""
    names: set[str] = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layer"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def constants(path: Path, kind: type) -> set[object]:
    """The constants of a kind that are written in a module."""
    found = (node.value for node in nodes_of(path) if isinstance(node, ast.Constant))
    return {value for value in found if isinstance(value, kind)}


def room(name: str) -> str:
    return name.split(".")[0]


def outside(*rooms: str) -> list[Path]:
    """The modules of all rooms but these."""
    return [path for path in modules() if room(name_of(path)) not in rooms]


def inside(*rooms: str) -> list[Path]:
    """The modules of these rooms."""
    return [path for path in modules() if room(name_of(path)) in rooms]


def breaches(found: dict[Path, set[Any]]) -> dict[str, set[Any]]:
    """What breaks a rule, by the module that does."""
    return {name_of(path): what for path, what in found.items() if what}


def target_of(name: str) -> str:
    """The room that an imported name of the package is in."""
    target = room(name.removeprefix("flowtally."))
    return target if target in ALLOWED else ""


def test_imports_point_one_way() -> None:
    found = {
        path: {
            name
            for name in imported(path)
            if name.startswith("flowtally.") and target_of(name) not in ALLOWED[room(name_of(path))]
        }
        for path in modules()
        if name_of(path)
    }
    assert breaches(found) == {}


def test_only_the_composer_names_a_store() -> None:
    found = {
        path: {name for name in imported(path) if name.startswith("flowtally.stores")}
        for path in outside("compose", "stores")
    }
    assert breaches(found) == {}


def test_what_is_pure_does_no_io() -> None:
    pure = inside("model", "wire", "ports", "errors", "limits", "steps")
    found = {path: {room(name) for name in imported(path)} & NO_IO for path in pure}
    assert breaches(found) == {}


def test_the_client_installs_without_the_server() -> None:
    ours = inside("client", "importers")
    found = {path: {room(name) for name in imported(path)} & SERVER for path in ours}
    assert breaches(found) == {}


def test_only_the_clock_reads_the_time() -> None:
    """The command line may measure itself; the client is given its clock as an argument."""
    found = {
        path: {ast.unparse(node.func) for node in nodes_of(path) if isinstance(node, ast.Call)}
        & CLOCKS
        for path in outside("clock", "cli", "client")
    }
    assert breaches(found) == {}


def test_only_problems_decides_a_status() -> None:
    statuses = {200, 202, 304, *range(400, 432), *range(500, 512)}
    found = {
        path: constants(path, int) & statuses
        for path in inside("api")
        if path.name not in ("problems.py", "openapi.py")
    }
    assert breaches(found) == {}


def test_only_the_wire_knows_names_on_the_wire() -> None:
    """As keys of JSON. The columns of a store's tables are its own, and named the same; bytes are
    no sign, because accounts have them as well."""
    found = {
        path: constants(path, str) & set(NAME_FIELDS)
        for path in outside("wire", "stores")
        if path.name != "openapi.py"
    }
    assert breaches(found) == {}


def test_the_client_runs_where_the_server_is_not_installed() -> None:
    """Runs `flowtally send --help` and imports the client in an interpreter that refuses the
    server's packages."""
    program = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {SERVER - {"sqlite3"}}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
import flowtally.client.sending, flowtally.importers.aws_vpc
from flowtally.cli.main import main
main(["send", "--help"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["tests/oracle.py", "benchmarks/traffic.py", "benchmarks/load.py"])
def test_what_the_product_is_held_against_knows_nothing_of_it(name: str) -> None:
    assert not {one for one in imported(ROOT / name) if room(one) == "flowtally"}
