"""The client's token goes to the service of its URL and to nobody else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flowtally.client.client import FlowClient, Refused
from flowtally.errors import SettingsError

TOKEN = "flt_a-token-of-this-test"


class Listener:
    """An HTTP server that notes what it is asked with, and answers what it is told to."""

    def __init__(self) -> None:
        self.authorizations: list[str | None] = []
        self.location: str | None = None
        noted = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                noted.authorizations.append(self.headers.get("Authorization"))
                self.send_response(200 if noted.location is None else 307)
                if noted.location is not None:
                    self.send_header("Location", noted.location)
                body = b"[]" if noted.location is None else b""
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@contextmanager
def listening() -> Iterator[Listener]:
    listener = Listener()
    thread = threading.Thread(target=listener.server.serve_forever)
    thread.start()
    try:
        yield listener
    finally:
        listener.server.shutdown()
        thread.join()
        listener.server.server_close()


def test_it_is_sent_with_every_request() -> None:
    with listening() as service, FlowClient(service.url, token=TOKEN) as client:
        client.sums(1)
        client.sums_text(1, "csv")
        assert service.authorizations == [f"Bearer {TOKEN}"] * 2
    with listening() as service, FlowClient(service.url) as client:
        client.sums(1)
        assert service.authorizations == [None]


@pytest.mark.parametrize("method", ["sums", "post"])
def test_no_redirect_is_followed_and_none_carries_it(method: str) -> None:
    with listening() as service, listening() as stranger:
        for location in (f"{stranger.url}/v1/flows?hour=1", f"{service.url}/elsewhere"):
            service.location = location
            asked = len(service.authorizations)
            with (
                FlowClient(service.url, token=TOKEN) as client,
                pytest.raises(Refused, match="the service answered 307"),
            ):
                client.sums(1) if method == "sums" else client.post(b"[]", "k")
            assert len(service.authorizations) == asked + 1
        assert stranger.authorizations == []


def test_authorities_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="gone cannot be read: No such file"):
        FlowClient("https://x", ca=tmp_path / "gone")
    (tmp_path / "junk").write_text("junk")
    with pytest.raises(SettingsError, match="junk holds no certificates"):
        FlowClient("https://x", ca=tmp_path / "junk")
