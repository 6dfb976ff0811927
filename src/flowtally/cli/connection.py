"""The options of every command that talks to a service, and of those that send to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from flowtally.config import URL_VARIABLE

if TYPE_CHECKING:
    from flowtally.client.client import FlowClient

Url = Annotated[
    str, typer.Option("--url", envvar=URL_VARIABLE, help="where the service is reached")
]
DEFAULT_URL = "http://127.0.0.1:8080"
Connections = Annotated[int, typer.Option(min=1, max=64, help="batches sent at once")]
GiveUp = Annotated[float, typer.Option(min=0, help="how long one batch is tried, in seconds")]
KeyPrefix = Annotated[
    str,
    typer.Option(help="another one makes other keys: the same input counts again"),
]
_READ_GIVE_UP_S = 5.0
"""A person waits for the answer."""


@contextmanager
def client_of(url: str, give_up_after_s: float = _READ_GIVE_UP_S) -> Iterator[FlowClient]:
    """A client of the service at `url`."""
    from flowtally.client.client import FlowClient
    from flowtally.client.retry import RetryPolicy

    with FlowClient(url, RetryPolicy(give_up_after_s)) as client:
        yield client
