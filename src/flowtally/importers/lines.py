"""The lines of a log file, plain or gzip (several members as well), as bytes without their end.

Memory is bounded by the longest line that is permitted. Closes nothing: the stream is its owner's.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from io import BufferedReader

from flowtally.errors import InvalidInput

_GZIP_MAGIC = b"\x1f\x8b"
_LINE_BYTES_MAX = 64 * 1024


def lines_of(stream: BufferedReader, name: str) -> Iterator[bytes]:
    """Raises `InvalidInput` naming the input where it is damaged, cut off, or no text."""
    is_gzip = stream.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC)
    source = gzip.GzipFile(fileobj=stream) if is_gzip else stream
    number = 0
    try:
        while line := source.readline(_LINE_BYTES_MAX):
            number += 1
            if len(line) == _LINE_BYTES_MAX and not line.endswith(b"\n"):
                raise InvalidInput(f"{name}:{number}: more than {_LINE_BYTES_MAX} bytes in a line")
            yield line.rstrip(b"\r\n")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InvalidInput(f"{name}: damaged gzip after line {number}: {error}") from error
