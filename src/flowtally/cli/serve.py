"""`flowtally serve`: runs one node until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable

from flowtally.cli import settings_flags as flag
from flowtally.clock import Clock, SystemClock
from flowtally.config import Settings
from flowtally.steps import OnStep, ignore

logger = logging.getLogger("flowtally.serve")


def command(
    config: flag.Config = None,
    assignments: flag.Set = None,
    store: flag.Store = None,
    data: flag.Data = None,
    host: flag.Host = None,
    port: flag.Port = None,
    insecure: flag.Insecure = None,
) -> None:
    """Run the service: take batches, sum them, serve the sums. Stops cleanly on SIGTERM."""
    loaded = flag.load_from(
        config,
        assignments,
        store=store,
        data=data,
        host=host,
        port=port,
        insecure=insecure,
    )
    run(loaded.settings)


def run(
    settings: Settings, on_step: OnStep = ignore, clock: Clock | None = None
) -> None:
    """Serves until SIGTERM or SIGINT; a second signal ends the process at once.

    `on_step` and `clock` are for tests that kill the process at a named step, or set its time.
    """
    from flowtally.observe.logs import set_up

    set_up(settings.log_format, settings.log_level)
    main = _serve(settings, on_step, clock or SystemClock())
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


async def _serve(settings: Settings, on_step: OnStep, clock: Clock) -> None:
    from flowtally.api.server import serve
    from flowtally.compose import Service

    service = Service(settings, clock, on_step)
    await service.start()
    try:
        stop = asyncio.Event()
        _stop_on_signals(stop, service.drain)

        def on_listening(host: str, port: int) -> None:
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            service.announce(url)
            _greet(settings, url)

        await serve(
            service.app,
            settings.host,
            settings.port,
            stop=stop,
            on_listening=on_listening,
        )
    finally:
        await service.close()
    logger.info("stopped")


def _stop_on_signals(stop: asyncio.Event, drain: Callable[[], None]) -> None:
    def on_signal() -> None:
        if stop.is_set():
            os._exit(1)
        logger.info("stopping")
        drain()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)


def _greet(settings: Settings, url: str) -> None:
    kept = "nowhere: memory only" if settings.store == "memory" else str(settings.data)
    logger.info("listening", extra={"url": url, "store": settings.store, "data": kept})
    if not sys.stdout.isatty():
        return
    print(
        f"""
  Flowtally serves on {url}
  data: {kept}

  post  curl {url}/v1/flows -H 'Content-Type: application/json' -d \\
          '[{{"src_app":"foo","dest_app":"bar","vpc_id":"vpc-0","hour":1,"bytes_rx":300,"bytes_tx":100}}]'
  read  curl '{url}/v1/flows?hour=1'
  stop  Ctrl-C
""",
        flush=True,
    )
