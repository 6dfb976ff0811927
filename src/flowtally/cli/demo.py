"""`flowtally demo`: traffic like a real network's, to have something to look at."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from flowtally import limits
from flowtally.cli.connection import DEFAULT_URL, Ca, Connections, GiveUp, TokenFile, Url, client_of

if TYPE_CHECKING:
    from flowtally.client.sending import KeyedBatch

_BATCH_RECORDS = 1000


def command(
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca: Ca = None,
    records: Annotated[int, typer.Option(min=1, help="how many records to send")] = 20_000,
    rate: Annotated[
        float, typer.Option(min=0, help="records a second; 0 is as fast as it goes")
    ] = 0,
    seed: Annotated[int, typer.Option(help="the same seed gives the same records")] = 1,
    hour: Annotated[
        int, typer.Option(min=0, max=limits.HOUR_MAX - 2, help="the first of three hours")
    ] = 0,
    connections: Connections = 4,
    give_up_after_s: GiveUp = 60,
) -> None:
    """Send generated traffic, to have something to look at.

    2,000 apps of which few talk much, 10 VPCs, three hours. The same seed, hour and number of
    records are the same batches: sent again, they count nothing.
    """
    from flowtally.cli.progress import told
    from flowtally.client.sending import Sent, keyed_batches, send_batches
    from flowtally.client.traffic import generated_records

    sent = Sent()
    with (
        client_of(url, give_up_after_s, token_file=token_file, ca=ca) as client,
        told(client, sent) as on_sent,
    ):
        entries = ((one, one) for one in generated_records(records, seed, hour))
        batches = keyed_batches(entries, _BATCH_RECORDS, f"demo:{seed}:{hour}")
        send_batches(client, _paced(batches, rate), connections, sent, on_sent)
    print(f"now read an hour: flowtally query --hour {hour}")


def _paced(batches: Iterable[KeyedBatch], rate: float) -> Iterator[KeyedBatch]:
    """Each batch when its first record is due."""
    began_s = time.monotonic()
    for batch in batches:
        if rate:
            due_s = began_s + batch.first_record / rate
            time.sleep(max(0.0, due_s - time.monotonic()))
        yield batch
