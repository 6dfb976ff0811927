"""Imports point one way (docs/architecture.md), also those inside functions."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from flowtally.wire.fields import NAME_FIELDS
from tests.repo.files import ROOT, modules, name_of

MODEL = ("model", "errors", "limits", "clock", "steps")
ALLOWED: dict[str, tuple[str, ...]] = {
    "": (),
    **dict.fromkeys(MODEL, MODEL),
    "ports": MODEL,
    "wire": (*MODEL, "wire"),
    "ingest": (*MODEL, "ports", "wire", "ingest"),
    "stores": (*MODEL, "ports", "wire", "ingest", "stores"),
    "observe": ("", *MODEL, "ports", "observe"),
    "api": ("", *MODEL, "ports", "wire", "ingest", "observe", "api"),
    "config": MODEL,
    "compose": (*MODEL, "ports", "wire", "ingest", "stores", "observe", "api", "config"),
    "client": (*MODEL, "wire", "client"),
    "importers": (*MODEL, "wire", "importers"),
    "cli": (
        "",
        *MODEL,
        "wire",
        "config",
        "compose",
        "observe",
        "api",
        "client",
        "importers",
        "cli",
    ),
}
"""What each room may import, by its first name; "" is the package itself."""
NO_IO = {"os", "socket", "pathlib", "sqlite3", "duckdb", "threading", "asyncio", "subprocess"}
SERVER = {"fastapi", "granian", "duckdb", "pyarrow", "sqlite3", "uvloop", "prometheus_client"}
CLOCKS = {"time.time", "time.time_ns", "time.monotonic", "datetime.now", "date.today"}


def imported(path: Path) -> set[str]:
    """The dotted names that a module imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layer"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(name: str) -> str:
    return name.split(".")[0]


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    own = room(name_of(path))
    if name_of(path) == "":
        return
    for name in imported(path):
        if name.startswith("flowtally."):
            target = room(name.removeprefix("flowtally."))
            if target not in ALLOWED:
                target = ""
            assert target in ALLOWED[own], f"{own} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_only_the_composer_names_a_store(path: Path) -> None:
    if room(name_of(path)) in ("compose", "stores"):
        return
    assert not {name for name in imported(path) if name.startswith("flowtally.stores")}


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_what_is_pure_does_no_io(path: Path) -> None:
    if room(name_of(path)) not in ("model", "wire", "ports", "errors", "limits", "steps"):
        return
    assert not {room(name) for name in imported(path)} & NO_IO


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_the_client_installs_without_the_server(path: Path) -> None:
    if room(name_of(path)) in ("client", "importers"):
        assert not {room(name) for name in imported(path)} & SERVER


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_only_the_clock_reads_the_time(path: Path) -> None:
    """The command line may measure itself; the client is given its clock as an argument."""
    if room(name_of(path)) in ("clock", "cli", "client"):
        return
    calls = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    }
    assert not calls & CLOCKS


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_only_problems_decides_a_status(path: Path) -> None:
    if room(name_of(path)) != "api" or path.name in ("problems.py", "openapi.py"):
        return
    found = {
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, int)
    }
    assert not found & {200, 202, 304, *range(400, 432), *range(500, 512)}


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_only_the_wire_knows_names_on_the_wire(path: Path) -> None:
    """As keys of JSON. The columns of a store's tables are its own, and named the same; bytes are
    no sign, because accounts have them as well."""
    if room(name_of(path)) in ("wire", "stores") or path.name == "openapi.py":
        return
    found = {
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert not found & set(NAME_FIELDS)


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
