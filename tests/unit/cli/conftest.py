"""A service with a memory store on a real port, and the command line called in this process."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flowtally.api.server import serve
from flowtally.cli.main import main
from flowtally.compose import Service
from flowtally.config import Settings


@dataclass(frozen=True)
class Ended:
    """How a call of the command line ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Call = Callable[..., Ended]


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of the machine the tests run on; files are made in a folder of their own."""
    for variable in [name for name in os.environ if name.startswith("FLOWTALLY_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def call(capfdbinary: pytest.CaptureFixture[bytes]) -> Call:
    """Calls `flowtally` with arguments."""

    def called(*arguments: str) -> Ended:
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capfdbinary.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Ended(code, out.decode(), err.decode())

    return called


@pytest.fixture
def url() -> Iterator[str]:
    """Where a service with an empty memory store is reached."""
    with serving(Settings(store="memory", access_log=False)) as running:
        yield running.url


@dataclass
class Running:
    """A service that runs in a thread of its own."""

    url: str
    service: Service
    run_there: Callable[[Callable[[], object]], object]
    """Calls a function on the service's event loop."""


@contextmanager
def serving(settings: Settings, wrap: Callable[[Any], Any] = lambda app: app) -> Iterator[Running]:
    """Runs a service on a free port; `wrap` may put something before its application."""
    listening = threading.Event()
    found: list[Running] = []
    stop: list[Callable[[], object]] = []

    async def run() -> None:
        service = Service(settings)
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(ended.set))

        def on_listening(host: str, port: int) -> None:
            found.append(Running(f"http://{host}:{port}", service, loop.call_soon_threadsafe))
            listening.set()

        await service.start()
        try:
            app = wrap(service.app)
            await serve(app, "127.0.0.1", 0, stop=ended, on_listening=on_listening)
        finally:
            await service.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert listening.wait(60)
        yield found[0]
    finally:
        stop[0]()
        thread.join(60)
