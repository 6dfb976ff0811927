"""What a person sees while records are sent: a bar on a terminal, and a summary at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flowtally.client.client import FlowClient, Refused
from flowtally.client.sending import KeyedBatch, Sent
from flowtally.errors import FlowtallyError
from flowtally.model import Receipt


@contextmanager
def progress_of(
    total_bytes: int | None = None,
) -> Iterator[Callable[[KeyedBatch, Receipt], None]]:
    """A function to call for each batch sent; draws nothing where standard error is no terminal."""
    if not sys.stderr.isatty():
        yield lambda batch, receipt: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("records", total=total_bytes)

        def on_sent(batch: KeyedBatch, receipt: Receipt) -> None:
            bar.advance(task, batch.records)

        yield on_sent


def summary(sent: Sent, client: FlowClient, seconds: float) -> str:
    """One line for the end."""
    rate = f", {sent.records / seconds:,.0f} records/s" if seconds > 0 else ""
    return (
        f"{sent.records} records in {sent.batches} batches"
        f" ({sent.batches_repeated} of them counted before), {sent.body_bytes} bytes,"
        f" {client.retries} retries, {seconds:.1f} s{rate}"
    )


def explained(error: Refused, batch_first_record: int | None = None) -> FlowtallyError:
    """A refusal, with what the service said of each record."""
    lines = [str(error)]
    for fault in error.problem.get("errors", [])[:10]:
        lines.append(f"  {fault['pointer']}: {fault['detail']}")
    return FlowtallyError("\n".join(lines))
