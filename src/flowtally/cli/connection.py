"""The options of every command that talks to a service, and of those that send to it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from flowtally.config import (
    CA_VARIABLE,
    TOKEN_FILE_VARIABLE,
    TOKEN_VARIABLE,
    URL_VARIABLE,
)
from flowtally.errors import SettingsError
from flowtally.exposure import is_loopback

if TYPE_CHECKING:
    from flowtally.client.client import FlowClient

Url = Annotated[
    str, typer.Option("--url", envvar=URL_VARIABLE, help="where the service is reached")
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        envvar=TOKEN_FILE_VARIABLE,
        help=f"a file that holds the token; default: the variable {TOKEN_VARIABLE} holds it itself",
    ),
]
Ca = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        envvar=CA_VARIABLE,
        help="certificates of authorities, as PEM, that the service's must be from; default: those"
        " that the world trusts",
    ),
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
_TOKEN_BYTES_MAX = 4_096


@contextmanager
def client_of(
    url: str,
    give_up_after_s: float = _READ_GIVE_UP_S,
    *,
    token_file: Path | None = None,
    ca: Path | None = None,
    token_from_environment: bool = True,
) -> Iterator[FlowClient]:
    """A client of the service at `url`.

    There is no option that holds a token itself: everybody on the machine can read the arguments
    of a process. Raises `SettingsError` where the token or the authorities cannot be read.
    """
    from flowtally.client.client import FlowClient
    from flowtally.client.retry import RetryPolicy

    token = _token(token_file, token_from_environment)
    if token is not None and _is_in_the_clear(url):
        print(
            f"flowtally: the token goes to {url} in the clear, where others can read it; use https",
            file=sys.stderr,
        )
    with FlowClient(url, RetryPolicy(give_up_after_s), token=token, ca=ca) as client:
        yield client


def _token(file: Path | None, from_environment: bool) -> str | None:
    if file is None:
        text = os.environ.get(TOKEN_VARIABLE, "").strip() if from_environment else ""
        if len(text.split()) > 1 or not text.isascii():
            raise SettingsError(f"{TOKEN_VARIABLE} must hold a token and nothing else")
        return text or None
    try:
        with file.open("rb") as stream:
            text = stream.read(_TOKEN_BYTES_MAX).decode("ascii").strip()
    except OSError as error:
        raise SettingsError(f"the token file {file} cannot be read: {error.strerror}") from error
    except ValueError:
        text = ""
    if not text or len(text.split()) != 1:
        raise SettingsError(f"the token file {file} must hold a token and nothing else")
    return text


def _is_in_the_clear(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")
