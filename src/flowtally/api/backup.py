"""POST /v1/backup: a copy of everything, exact at one point, while posts and reads go on.

The copy is made first, and only then is anything answered; what is sent is removed when the client
has it, or is gone. One at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import Path
from typing import BinaryIO

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from flowtally import __version__
from flowtally.api.exchange import Exchange
from flowtally.api.services import Services
from flowtally.errors import NotAccepting, Overloaded
from flowtally.model import Backup
from flowtally.wire.backup_stream import MEDIA_TYPE, Source, backup_stream

logger = logging.getLogger(__name__)

_RETRY_S = 30


class Backups:
    """The endpoint, over the parts that one request is answered from."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def back_up(self, request: Request) -> Response:
        """Answers with the stream of `wire/backup_stream.py`."""
        exchange: Exchange = request.scope["flowtally"]
        underway = self._services.backup_underway
        if underway.locked():
            raise Overloaded("a backup is under way, and there is one at a time", _RETRY_S)
        if self._services.stopping():
            raise NotAccepting("the service is stopping", _RETRY_S)
        kept = AsyncExitStack()
        # At once: nobody else can have it since it was looked at.
        await underway.acquire()
        kept.callback(underway.release)
        try:
            copy = self._services.source.backed_up()
            backup = await _made_for(exchange, kept, copy)
        except BaseException:
            await kept.aclose()
            raise
        point = backup.point
        return _KeptResponse(
            kept,
            self._pieces(backup),
            media_type=MEDIA_TYPE,
            headers={
                "Content-Disposition": f'attachment; filename="flowtally-{point.sequence}.tar"',
                "Flowtally-Sequence": str(point.sequence),
            },
        )

    async def _pieces(self, backup: Backup) -> AsyncIterator[bytes]:
        began_s = self._services.clock.monotonic_s()
        pieces = backup_stream(backup.point, sources_of(backup), __version__)
        size_bytes = 0
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            size_bytes += len(piece)
            yield piece
        logger.info(
            "backup sent",
            extra={
                "sequence": backup.point.sequence,
                "bytes": size_bytes,
                "seconds": round(self._services.clock.monotonic_s() - began_s, 3),
            },
        )


def sources_of(backup: Backup) -> list[Source]:
    """The files of a copy that is kept."""
    paths = [Path(path) for path in backup.paths]
    return [Source(path.name, path.stat().st_size, partial(_opened, path)) for path in paths]


def _opened(path: Path) -> BinaryIO:
    return path.open("rb")


class _KeptResponse(StreamingResponse):
    """A stream that lets go of what it is made from, also where its client never reads it."""

    def __init__(self, kept: AsyncExitStack, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self._kept = kept

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        async with self._kept:
            await super().__call__(scope, receive, send)  # type: ignore[arg-type]


async def _made_for(
    exchange: Exchange, kept: AsyncExitStack, copy: AbstractAsyncContextManager[Backup]
) -> Backup:
    """Makes the copy, for as long as the client is there."""
    making = asyncio.create_task(kept.enter_async_context(copy))
    gone = asyncio.create_task(exchange.gone())
    try:
        await asyncio.wait([making, gone], return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        if not making.done():
            making.cancel()
            await asyncio.wait([making])
    if making.cancelled():
        raise NotAccepting("the client is gone")
    return making.result()
