"""GET /v1/flows, /v1/hours, /v1/ledger: what is read, in the format and coding asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request, Response

from flowtally import limits
from flowtally.api.answer_cache import Answer
from flowtally.api.dependencies import Endpoint, endpoint_of
from flowtally.api.exchange import Exchange
from flowtally.api.parameters import hour_of, parameters_of
from flowtally.api.problems import NOT_MODIFIED
from flowtally.api.services import Services
from flowtally.errors import DeadlinePassed
from flowtally.model import Revision
from flowtally.wire.answers import encode_hours, encode_ledger, timestamp
from flowtally.wire.coding import answer_coding, encode_content
from flowtally.wire.media import SumsFormat, sums_format
from flowtally.wire.sums import encode_answer

_JSON = "application/json"
_INSTANCE_DIGITS = 12


def read_endpoints() -> dict[str, Endpoint]:
    """What answers each read, by the operation's name."""
    return {
        "getFlows": endpoint_of(Reads, Reads.flows),
        "getHours": endpoint_of(Reads, Reads.hours),
        "getLedger": endpoint_of(Reads, Reads.ledger),
    }


class Reads:
    """The endpoints, over the parts that one request is answered from."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def flows(self, request: Request) -> Response:
        """The sums of one hour."""
        exchange: Exchange = request.scope["flowtally"]
        found = parameters_of(request.scope["query_string"], ("hour", "format"))
        hour = hour_of(found)
        form = sums_format(exchange.header(b"accept"), found.get("format"))
        coding = answer_coding(exchange.header(b"accept-encoding"))
        async with self._deadline():
            # First, as the port asks for it: never is an old answer taken for a whole one.
            partial = await self._services.source.is_partial(hour)
            revision = await self._services.source.revision(hour)
            instance = self._services.source.instance()
            tag = _etag(instance, hour, revision, form, coding)
            if _matches(exchange.header(b"if-none-match"), tag):
                # Told either way: of what a cache has, it keeps each header that is not told anew.
                headers = {
                    "ETag": tag,
                    "Flowtally-Partial": "false",
                    **self._headers(revision, partial),
                }
                return Response(status_code=NOT_MODIFIED, headers=headers)
            answer = await self._services.answers.get(
                (hour, form, coding), revision, lambda: self._answer(hour, form, coding)
            )
        headers = {
            "ETag": _etag(instance, hour, answer.revision, form, coding),
            "Flowtally-Records": str(answer.flows),
            **self._headers(answer.revision, partial),
        }
        if answer.coding is not None:
            headers["Content-Encoding"] = answer.coding
        # As a header, not as `media_type`: Starlette would add a charset to every text.
        return Response(answer.body, headers={"Content-Type": form.media_type, **headers})

    async def hours(self, request: Request) -> Response:
        """The hours held."""
        parameters_of(request.scope["query_string"], ())
        async with self._deadline():
            hours = await self._services.source.hours()
        return Response(encode_hours(hours), media_type=_JSON)

    async def ledger(self, request: Request) -> Response:
        """The account."""
        parameters_of(request.scope["query_string"], ())
        async with self._deadline():
            ledger = await self._services.source.ledger()
        return Response(encode_ledger(ledger), media_type=_JSON)

    async def _answer(self, hour: int, form: SumsFormat, coding: str | None) -> Answer:
        sums = await self._services.source.sums(hour)

        def encode() -> tuple[bytes, str | None]:
            return encode_content(encode_answer(sums, form), coding)

        if len(sums) <= limits.ENCODE_INLINE_FLOWS_MAX:
            body, used = encode()
        else:
            # Arrow's kernels and the compressor leave Python free meanwhile.
            body, used = await asyncio.to_thread(encode)
        return Answer(sums.revision, len(sums), body, used)

    def _headers(self, revision: Revision, partial: bool) -> dict[str, str]:
        headers = {
            "Flowtally-Revision": str(revision.number),
            "Vary": "Accept, Accept-Encoding",
            "Cache-Control": "no-cache",
        }
        changed = timestamp(revision.changed_ms)
        if changed is not None and revision.changed_ms is not None:
            headers["Flowtally-Last-Change"] = changed
            age_ms = self._services.clock.now_ms() - revision.changed_ms
            partial = partial or age_ms < limits.PARTIAL_INTERVAL_MS
        if partial:
            headers["Flowtally-Partial"] = "true"
        return headers

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        """Turns the request's deadline into an error of ours."""
        seconds = self._services.deadline_s
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            raise DeadlinePassed(f"the read took longer than {seconds:g} s") from None


def _etag(
    instance: str | None, hour: int, revision: Revision, form: SumsFormat, coding: str | None
) -> str:
    """Strong: other bytes, other tag. With whose the data are and the moment of the change: a store
    that began anew, or was restored, gives out the same revisions again."""
    version = (
        f"{revision.number}-{revision.changed_ms or 0:x}-{(instance or '')[:_INSTANCE_DIGITS]}"
    )
    return f'"{hour}-{version}-{form.name_in_query}-{coding or "identity"}"'


def _matches(if_none_match: str | None, tag: str) -> bool:
    """RFC 9110, section 13.1.2: weak comparison with any of a list, or `*`."""
    if if_none_match is None:
        return False
    given = (one.strip().removeprefix("W/") for one in if_none_match.split(","))
    return any(one in ("*", tag) for one in given)
