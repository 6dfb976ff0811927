"""What the crash tests share: a service in a folder of its own, a seed, and a small file system."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.nursery import Nursery
from tests.crash.service import ROOT, Service, running
from tests.postgres import Postgres, started

TMPFS_BYTES = 96 * 1024 * 1024
TEST_S_MAX = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These tests start and kill processes, some of them hundreds: they may take their time."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(TEST_S_MAX))


@pytest.fixture
def seed() -> int:
    """Drawn anew each time, or given by CRASH_SEED."""
    given = os.environ.get("CRASH_SEED")
    return int(given) if given else random.SystemRandom().randrange(2**32)


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Makes services quickly; see the module."""
    nursery = Nursery(ROOT)
    yield nursery
    nursery.close()


@pytest.fixture
def service(
    tmp_path: Path, seed: int, nursery: Nursery, request: pytest.FixtureRequest
) -> Iterator[Service]:
    """Not yet started. A failing test prints where its data is kept and how to run it again."""
    replay = f"CRASH_SEED={seed} pytest '{request.node.nodeid}'"
    yield from _kept_on_failure(Service(tmp_path, nursery=nursery), replay, request)


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server that this test alone may end."""
    server = started()
    yield server
    server.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 MiB in memory; the test is skipped where mounting is not permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "none", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no small file system: {mounted.stderr.strip() or 'mount is not permitted'}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def service_on_small_disk(
    tmp_path: Path,
    small_disk: Path,
    seed: int,
    nursery: Nursery,
    request: pytest.FixtureRequest,
) -> Iterator[Service]:
    """As `service`, with the data folder on the small file system."""
    replay = f"CRASH_SEED={seed} pytest '{request.node.nodeid}'"
    service = Service(tmp_path, small_disk / "data", nursery)
    yield from _kept_on_failure(service, replay, request)


def _kept_on_failure(
    service: Service, replay: str, request: pytest.FixtureRequest
) -> Iterator[Service]:
    failed_before = request.session.testsfailed
    with running(service, replay):
        yield service
        if request.session.testsfailed > failed_before:
            service.tell(replay)


@pytest.fixture(scope="session")
def faults_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`faults.c`, compiled; the tests that need it are skipped where there is no compiler."""
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    source = Path(__file__).with_name("faults.c")
    command = ["gcc", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC"]
    try:
        subprocess.run(
            [*command, "-o", str(library), str(source), "-ldl", "-lpthread"],
            check=True,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        pytest.skip("no gcc to compile tests/crash/faults.c with")
    return library
