"""The HTTP application over a memory store, and a client that hands it exchanges: no port.

The client decides how a body is cut into pieces, which none of the ready-made ones allow.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import quote

from flowtally.api.app import App
from flowtally.api.deadline import Deadline
from flowtally.api.exchange import Exchange, Stream
from flowtally.api.services import Services
from flowtally.clock import ManualClock
from flowtally.ingest.admission import Admission
from flowtally.ingest.committer import Committer
from flowtally.limits import BodyLimits
from flowtally.observe.metrics import Metrics
from flowtally.ports import FlowStore
from flowtally.stores.memory import MemoryStore

Result = TypeVar("Result")
Headers = Mapping[str, str] | Sequence[tuple[str, str]]
NOW_MS = 1_700_000_000_000


@dataclass(frozen=True)
class Reply:
    """An answer, as it was sent."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of a header, which must not be repeated."""
        found = [value for key, value in self.headers if key == name.lower()]
        assert len(found) <= 1, f"{name} is repeated: {found}"
        return found[0] if found else None

    def json(self) -> Any:
        return json.loads(self.body)


class Hangup(Exception):
    """In a body: the client goes away here."""


class Silence(Exception):
    """In a body: nothing more comes, and the client stays."""


Piece = bytes | type[Hangup] | type[Silence]


async def call(
    app: Any,
    method: str,
    target: str,
    headers: Headers = (),
    body: bytes | Sequence[Piece] = b"",
) -> Reply:
    """One request. A body of several pieces is sent chunked; `Hangup` in it ends the connection."""
    pieces: list[Piece] = list(body) if not isinstance(body, bytes) else [body]
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    names = {name.lower() for name, _ in pairs}
    if isinstance(body, bytes) and body and "content-length" not in names:
        pairs.append(("content-length", str(len(body))))
    elif not isinstance(body, bytes) and "content-length" not in names:
        pairs.append(("transfer-encoding", "chunked"))
    joined: dict[bytes, bytes] = {}
    for name, value in pairs:
        key, text = name.lower().encode(), value.encode("latin-1")
        joined[key] = joined[key] + b", " + text if key in joined else text
    client = Client(pieces)
    exchange = client.exchange(method, target, joined)
    await app(exchange)
    exchange.deadline.close()
    return client.reply()


class Client(Stream):
    """The other end of one exchange: sends the pieces of a body as they are asked for, and takes
    the answer as it is sent."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = list(pieces)
        self._sent: list[bytes] = []
        self._exchange: Exchange | None = None

    def exchange(self, method: str, target: str, headers: Mapping[bytes, bytes]) -> Exchange:
        """The request, as a connection would hand it to the application."""
        task = asyncio.current_task()
        assert task is not None
        self._exchange = Exchange(
            method, target.encode(), headers, "192.0.2.7", self, Deadline(task)
        )
        return self._exchange

    def reply(self) -> Reply:
        """The answer, as it would be on the wire."""
        head, _, body = b"".join(self._sent).partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = tuple(
            (name, value) for name, _, value in (line.partition(": ") for line in lines)
        )
        return Reply(int(status.split()[1]), headers, body)

    async def more(self) -> None:
        assert self._exchange is not None
        piece = self._pieces.pop(0) if self._pieces else Hangup
        if isinstance(piece, bytes):
            self._exchange.take(piece)
            self._exchange.body_ended = not self._pieces
        elif piece is Hangup:
            self._exchange.cut_off = True
        else:
            await asyncio.Event().wait()

    async def gone(self) -> None:
        await asyncio.Event().wait()

    def date(self) -> bytes:
        return b""

    def closes_after(self, exchange: Exchange) -> bool:
        return not exchange.body_ended

    async def write(self, head: bytes, body: bytes = b"") -> None:
        self._sent += (head, body)


def as_asgi(app: Any) -> Any:
    """The application for a client that speaks ASGI only."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        query = scope["query_string"]
        body: list[bytes] = []
        more = True
        while more:
            message = await receive()
            body.append(message.get("body", b""))
            more = message.get("more_body", False)
        headers = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]
        ]
        target = quote(scope["path"]) + (f"?{query.decode('latin-1')}" if query else "")
        reply = await call(app, scope["method"], target, headers, b"".join(body))
        start = {
            "type": "http.response.start",
            "status": reply.status,
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in reply.headers],
        }
        await send(start)
        await send({"type": "http.response.body", "body": reply.body})

    return answer


class Service:
    """One application with all that stands behind it."""

    def __init__(
        self,
        bounds: BodyLimits = BodyLimits(),
        deadline_s: float = 30.0,
        in_flight_bytes_max: int = 1 << 30,
        make_store: Callable[[ManualClock], FlowStore] = MemoryStore,
        make_loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> None:
        self.clock = ManualClock(NOW_MS)
        self.store = make_store(self.clock)
        self.metrics = Metrics()
        self.stopping = False
        self.services = Services(
            sink=self.store,
            source=self.store,
            committer=Committer(self.store, self.clock, observe_commit=self.metrics.observe_commit),
            admission=Admission(in_flight_bytes_max),
            clock=self.clock,
            bounds=bounds,
            deadline_s=deadline_s,
            metrics=self.metrics,
            stopping=lambda: self.stopping,
            store_name="memory",
        )
        self.app = App(self.services)
        self._runner = asyncio.Runner(loop_factory=make_loop)

    def start(self) -> None:
        self.run(self.store.start())

    def replace(self, **parts: Any) -> None:
        """Puts another part in the place of one, and a new application over them."""
        self.app.close()
        self.services = replace(self.services, **parts)
        self.app = App(self.services)

    def close(self) -> None:
        self.app.close()
        self.run(self.services.committer.close())
        self.run(self.store.close())
        self._runner.close()

    def run(self, story: Coroutine[Any, Any, Result]) -> Result:
        """Runs a coroutine to its end."""
        return self._runner.run(story)

    def request(
        self,
        method: str,
        target: str,
        headers: Headers = (),
        body: bytes | Sequence[Piece] = b"",
    ) -> Reply:
        return self.run(call(self.app, method, target, headers, body))

    def get(self, target: str, headers: Headers = ()) -> Reply:
        return self.request("GET", target, headers)

    def post(
        self,
        body: bytes | Sequence[Piece],
        headers: Headers = (),
        target: str = "/v1/flows",
    ) -> Reply:
        return self.request("POST", target, headers, body)

    def sums(self, hour: int) -> list[dict[str, Any]]:
        """What a read of the hour answers."""
        reply = self.get(f"/v1/flows?hour={hour}")
        assert reply.status == 200, reply
        found: list[dict[str, Any]] = reply.json()
        return found

    def counted(self) -> tuple[int, int, int]:
        """Batches accepted, repeated and refused."""
        total = self.get("/v1/ledger").json()["total"]
        return (
            total["accepted"]["batches"],
            total["batches_repeated"],
            total["batches_refused"],
        )

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric; 0 where it was never counted."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def record(
    src: str = "foo",
    dest: str = "bar",
    vpc: str = "vpc-0",
    tx: int = 100,
    rx: int = 300,
    hour: int = 1,
) -> dict[str, Any]:
    """One record, as agents post it."""
    return {
        "src_app": src,
        "dest_app": dest,
        "vpc_id": vpc,
        "bytes_tx": tx,
        "bytes_rx": rx,
        "hour": hour,
    }


def encoded(records: Iterable[dict[str, Any]]) -> bytes:
    """A body of records."""
    return json.dumps(list(records)).encode()


def assert_problem(
    reply: Reply,
    status: int,
    slug: str,
    detail: str | None = None,
    pointers: Sequence[str] | None = None,
) -> None:
    """Every error has this one shape (RFC 9457)."""
    problem = reply.json()
    assert (reply.status, problem["status"]) == (status, status), problem
    assert reply.header("content-type") == "application/problem+json"
    assert reply.header("content-length") == str(len(reply.body))
    assert problem["type"] == f"/docs/problems#{slug}", problem
    assert problem["title"] and problem["detail"]
    assert problem["request_id"] == reply.header("x-request-id")
    known = {"type", "title", "status", "detail", "request_id"}
    if pointers is not None:
        known |= {"errors", "errors_total"}
        assert [error["pointer"] for error in problem["errors"]] == list(pointers), problem
        assert all(set(error) == {"pointer", "detail"} for error in problem["errors"])
    assert set(problem) == known, problem
    if detail is not None:
        assert detail in problem["detail"], problem
    assert (reply.header("retry-after") is not None) == (status in (408, 429, 503))
