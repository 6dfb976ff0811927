"""`flowtally health`: how services are, once or again and again."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowtally.cli.connection import DEFAULT_URL, Ca, TokenFile, client_of
from flowtally.clock import SystemClock
from flowtally.config import URL_VARIABLE
from flowtally.errors import SettingsError
from flowtally.wire.answers import timestamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowtally.client.health_watch import History, Look


def command(
    urls: Annotated[
        list[str], typer.Argument(envvar=URL_VARIABLE, help="where the services are reached")
    ] = [DEFAULT_URL],  # noqa: B006
    once: Annotated[bool, typer.Option("--once", help="look once; the same as --count 1")] = False,
    count: Annotated[
        int | None, typer.Option(min=1, help="look so often, then end; forever without it")
    ] = None,
    interval_s: Annotated[
        float, typer.Option(min=0.1, max=86_400, help="from one look to the next, in seconds")
    ] = 10.0,
    timeout_s: Annotated[
        float, typer.Option(min=0.1, max=60, help="how long a service may take, in seconds")
    ] = 5.0,
    token_file: TokenFile = None,
    ca: Ca = None,
    history: Annotated[
        Path | None,
        typer.Option(
            help="keep each look as a line of JSON in this file; at 16 MiB put aside as FILE.1"
        ),
    ] = None,
) -> None:
    """Say how services are, and what to do where something is wrong.

    Asks all of them at the same time: prints a table at first, then a line for each change.

    Exit code, of the last look: 0 all ok, 1 a warning, 2 an error or no answer.
    """
    from flowtally.client.health_watch import SERVICES_MAX, HealthWatch, History, exit_code

    if len(urls) > SERVICES_MAX:
        raise SettingsError(f"{len(urls)} services are too many: up to {SERVICES_MAX} are watched")
    looks_left = 1 if once else count
    kept = None if history is None else _begun(History(history))
    last: dict[str, Look] = {}
    clock = SystemClock()
    began_s = clock.monotonic_s()
    rounds = 0
    with ExitStack() as stack:
        clients = {
            url: stack.enter_context(client_of(url, token_file=token_file, ca=ca)) for url in urls
        }
        watch = HealthWatch(clients, timeout_s, clock.monotonic_s)
        while True:
            looks = watch.look(str(timestamp(clock.now_ms())))
            if kept is not None:
                _keep(kept, looks)
            if not last:
                _print_table(looks)
            for look in looks:
                if last and look.differs_from(last[look.url]):
                    _print_change(look, last[look.url])
            sys.stdout.flush()
            last = {look.url: look for look in looks}
            rounds += 1
            if rounds == looks_left:
                break
            # At regular times, however long a look took; those that it took are left out.
            elapsed_s = clock.monotonic_s() - began_s
            time.sleep(interval_s - elapsed_s % interval_s)
    code = exit_code(looks)
    if code:
        raise typer.Exit(code)


def _begun(history: History) -> History:
    try:
        history.add(())
    except OSError as error:
        raise SettingsError(f"the history cannot be written: {error}") from error
    return history


def _keep(history: History, looks: Sequence[Look]) -> None:
    try:
        history.add(looks)
    except OSError as error:
        # A full disk is no reason to look no longer.
        print(f"flowtally: the history is not kept: {error}", file=sys.stderr)


def _print_table(looks: Sequence[Look]) -> None:
    width = max(len("service"), *(len(_shown(look.url)) for look in looks))
    print(f"{'service':<{width}}  {'state':<11}  {'took':>8}  what")
    for look in looks:
        took = f"{look.took_ms} ms"
        line = f"{_shown(look.url):<{width}}  {look.state:<11}  {took:>8}  {_shown(look.what)}"
        print(line.rstrip())


def _print_change(look: Look, before: Look) -> None:
    what = f": {_shown(look.what)}" if look.what else ""
    print(f"{look.ts}  {_shown(look.url)}  {before.state} -> {look.state}{what}")


def _shown(text: str) -> str:
    """What a service says may be hostile: what a terminal would act on is not printed."""
    return text if text.isprintable() else ascii(text)
