"""What a person sees while records are sent: a bar on a terminal, and a summary at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flowtally.client.client import FlowClient, Unreachable
from flowtally.client.sending import KeyedBatch, Sent
from flowtally.errors import FlowtallyError
from flowtally.model import Receipt

OnSent = Callable[[KeyedBatch, Receipt], None]


@contextmanager
def told(client: FlowClient, sent: Sent, total_bytes: int | None = None) -> Iterator[OnSent]:
    """Gives a function to call for each batch sent, and says at the end what was sent.

    Draws nothing where standard error is no terminal. Where sending fails, what was sent until
    then is said on standard error, before the error itself.
    """
    began_s = time.monotonic()
    try:
        with _bar(total_bytes) as on_sent:
            yield on_sent
    except (FlowtallyError, KeyboardInterrupt) as error:
        so_far = f"so far: {_summary(sent, client, time.monotonic() - began_s)}"
        # To an input that is wrong, or was refused, the same would happen again.
        again = isinstance(error, Unreachable | KeyboardInterrupt)
        print(so_far + "; send the same again to go on" * again, file=sys.stderr)
        raise
    print(_summary(sent, client, time.monotonic() - began_s))


@contextmanager
def _bar(total_bytes: int | None) -> Iterator[OnSent]:
    if not sys.stderr.isatty():
        yield lambda batch, receipt: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[records]:,} records"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("send", total=total_bytes, records=0)
        records = 0

        def on_sent(batch: KeyedBatch, receipt: Receipt) -> None:
            nonlocal records
            records += batch.records
            bar.update(task, advance=len(batch.body), records=records)

        yield on_sent


def _summary(sent: Sent, client: FlowClient, seconds: float) -> str:
    rate = f", {sent.records / seconds:,.0f} records/s" if seconds > 0 else ""
    repeated = ""
    if sent.batches_repeated:
        repeated = (
            f" ({_counted(sent.batches_repeated, 'batch', 'batches')} with"
            f" {_counted(sent.records_repeated, 'record', 'records')} of them repeated: counted"
            " before, and not again)"
        )
    return (
        f"{_counted(sent.records, 'record', 'records')} in"
        f" {_counted(sent.batches, 'batch', 'batches')}{repeated}, {sent.body_bytes} bytes,"
        f" {_counted(client.retries, 'retry', 'retries')}, {seconds:.1f} s{rate}"
    )


def _counted(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"
