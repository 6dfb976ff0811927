"""`flowtally serve`: runs one node until it is told to stop."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from flowtally import __version__
from flowtally.cli.reload import HangUp, Reload
from flowtally.cli.settings_flags import with_settings
from flowtally.clock import Clock, SystemClock
from flowtally.config import Loaded, Settings, without_password
from flowtally.observe.log_levels import parse_log_levels
from flowtally.steps import OnStep, ignore

if TYPE_CHECKING:
    import asyncio

    from flowtally.observe.logs import TurnHandler

logger = logging.getLogger("flowtally.serve")

LOG_SETTINGS = ("log_format", "log_level", "log_levels", "access_log")
"""What of the log may change while the service runs: all of it."""

_COLLECT_AFTER_OBJECTS = 20_000
"""What a few hundred posts leave behind; Python's own 700 are one post or two."""


def _serve_command(loaded: Loaded) -> None:
    """Run the service: take batches, sum them, serve the sums.

    Stops cleanly on SIGTERM or Ctrl-C: what is in flight is answered. A second Ctrl-C ends it
    at once. SIGHUP reads the settings again and takes on those of the log.
    """
    run(loaded.settings, load_again=lambda: loaded.load_again().settings)


command = with_settings(_serve_command)


def run(
    settings: Settings,
    on_step: OnStep = ignore,
    clock: Clock | None = None,
    load_again: Callable[[], Settings] | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT; a second SIGINT ends the process at once. `load_again` is
    what a SIGHUP reads the settings with.

    `on_step` and `clock` are for tests that kill the process at a named step, or set its time.
    """
    import asyncio
    import signal

    # Until it is known what is to be done: by default it would end the process.
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    clock = clock or SystemClock()
    log = _set_up_log(settings, clock)
    reload = Reload(settings, load_again or (lambda: settings))
    reload.add("log", partial(_configure_log, log), LOG_SETTINGS)
    hang_up = HangUp(reload, outlives_terminal=before == signal.SIG_IGN)
    main = _serve(settings, on_step, clock, log, hang_up)
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


def _set_up_log(settings: Settings, clock: Clock) -> TurnHandler:
    import threading

    from flowtally.observe.logs import set_up

    log = set_up(settings.log_format, settings.log_level, clock=clock)
    _configure_log(log, settings)

    def on_thread_died(died: threading.ExceptHookArgs) -> None:
        if died.exc_value is not None:
            logger.critical(
                "a thread died",
                exc_info=died.exc_value,
                extra={"thread": died.thread and died.thread.name},
            )

    # What Python would print instead is no line of this log.
    threading.excepthook = on_thread_died
    logging.captureWarnings(True)
    return log


def _configure_log(log: TurnHandler, settings: Settings) -> None:
    levels = parse_log_levels(settings.log_levels)
    log.configure(settings.log_format, settings.log_level, levels, settings.access_log)


async def _serve(
    settings: Settings, on_step: OnStep, clock: Clock, log: TurnHandler, hang_up: HangUp
) -> None:
    import asyncio

    from flowtally.api.server import serve
    from flowtally.compose import Service

    service = Service(settings, clock, on_step)
    stop = asyncio.Event()

    def stop_once() -> None:
        if not stop.is_set():
            logger.info("stopping")
            service.drain()
            stop.set()

    hang_up.reload.add("credentials", lambda _: service.reload())
    hang_up.listen(stop_once)
    telling = asyncio.create_task(log.tell_repeats_regularly(), name="log-repeats")
    try:
        await service.start()
    except BaseException:
        await _end_log(log, telling)
        raise
    try:
        _stop_on_signals(stop, stop_once)
        tls = service.credentials.tls

        def on_listening(host: str, port: int) -> None:
            scheme = "http" if tls is None else "https"
            url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
            service.announce(url)
            _greet(settings, url)

        with _seldom_collecting():
            await serve(
                service.app,
                settings.host,
                settings.port,
                stop=stop,
                on_listening=on_listening,
                tls=tls,
                on_handshake_failed=lambda: service.metrics.count_denied("handshake"),
            )
    finally:
        await service.close()
        await _end_log(log, telling)
    logger.info("stopped")


async def _end_log(log: TurnHandler, telling: asyncio.Task[None]) -> None:
    telling.cancel()
    log.tell_repeats(at_once=True)


def _stop_on_signals(stop: asyncio.Event, stop_once: Callable[[], None]) -> None:
    import asyncio
    import signal

    def on_signal(number: int) -> None:
        if stop.is_set() and number == signal.SIGINT:
            # Somebody presses Ctrl-C again and means it; what was acknowledged is on the disk. A
            # second SIGTERM only comes where a group is told and its parent passes it on.
            os._exit(1)
        stop_once()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)


@contextmanager
def _seldom_collecting() -> Iterator[None]:
    """Collects cyclic garbage seldom, and never looks again at what was imported.

    Hardly anything here is part of a cycle. Looking for one was a fifth of what a small post cost
    this thread, and over a hundred thousand imported objects it is a pause for everybody.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER_OBJECTS, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _greet(settings: Settings, url: str) -> None:
    kept = str(settings.data)
    if settings.store == "memory":
        kept = (
            f"memory; a snapshot every {settings.snapshot_interval_s:g} s in {kept}"
            if settings.snapshot_interval_s
            else "nowhere: memory only, and lost when this stops"
        )
    elif settings.store == "sql":
        kept = without_password(settings.sql_url).replace("{data}", kept)
    logger.info("listening", extra={"url": url, "store": settings.store, "data": kept})
    if not sys.stdout.isatty():
        return
    curl = "curl"
    if settings.tokens is not None:
        curl += ' -H "Authorization: Bearer $FLOWTALLY_TOKEN"'
    print(
        f"""
  Flowtally {__version__} serves on {url}
  data: {kept}

  post  {curl} {url}/v1/flows -H 'Content-Type: application/json' -d \\
          '[{{"src_app":"foo","dest_app":"bar","vpc_id":"vpc-0","hour":1,"bytes_rx":300,"bytes_tx":100}}]'
  read  {curl} '{url}/v1/flows?hour=1'
  stop  Ctrl-C
""",
        flush=True,
    )
