"""A service with a memory store on a real port, and the command line called in this process."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

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
    listening = threading.Event()
    found: list[str] = []
    stop: list[Callable[[], object]] = []

    async def run() -> None:
        service = Service(Settings(store="memory", access_log=False))
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(ended.set))

        def on_listening(host: str, port: int) -> None:
            found.append(f"http://{host}:{port}")
            listening.set()

        await service.start()
        try:
            await serve(service.app, "127.0.0.1", 0, stop=ended, on_listening=on_listening)
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
