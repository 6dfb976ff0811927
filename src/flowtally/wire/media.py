"""Content types: which a body may have, and which an answer is written in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from flowtally.errors import InvalidInput, NotAcceptable, UnsupportedMedia


class BodyFormat(Enum):
    """What a body may be."""

    JSON = "application/json"
    NDJSON = "application/x-ndjson"
    ARROW = "application/vnd.apache.arrow.stream"

    @property
    def media_type(self) -> str:
        """As it stands in Content-Type."""
        return self.value


class SumsFormat(Enum):
    """What an answer may be; the first is the default."""

    JSON = "application/json"
    NDJSON = "application/x-ndjson"
    CSV = "text/csv"
    ARROW = "application/vnd.apache.arrow.stream"
    PARQUET = "application/vnd.apache.parquet"

    @property
    def media_type(self) -> str:
        """As it stands in Content-Type."""
        return "text/csv; charset=utf-8; header=present" if self is SumsFormat.CSV else self.value

    @property
    def name_in_query(self) -> str:
        """As it stands in `?format=`."""
        return self.name.lower()


_CHARSETS = ("utf-8", "utf8", "us-ascii")
_QUALITY = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


@dataclass(frozen=True, slots=True)
class _Range:
    """One element of an Accept header (RFC 9110, section 12.5.1)."""

    kind: str
    quality: float

    def specificity(self, media_type: str) -> int:
        """How closely it names a media type; 0 where it does not match."""
        if self.kind == media_type:
            return 3
        if self.kind == media_type.split("/")[0] + "/*":
            return 2
        return 1 if self.kind == "*/*" else 0


@lru_cache(maxsize=64)
def body_format(content_type: str | None) -> BodyFormat:
    """The format of a body; JSON where no Content-Type is sent. Raises `UnsupportedMedia`."""
    if content_type is None or not content_type.strip():
        return BodyFormat.JSON
    kind, *parameters = (part.strip().lower() for part in content_type.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip(' "') not in _CHARSETS:
            raise UnsupportedMedia(f"the charset {value.strip()[:40]!r} is not read; send UTF-8")
    try:
        return BodyFormat(kind)
    except ValueError:
        known = ", ".join(form.media_type for form in BodyFormat)
        raise UnsupportedMedia(
            f"the Content-Type {kind[:80]!r} is not read; send one of {known}"
        ) from None


def sums_format(accept: str | None, format_name: str | None) -> SumsFormat:
    """The format of an answer: `?format=` if given, else the best that Accept allows.

    Raises `InvalidInput` for an unknown name and `NotAcceptable` where nothing fits.
    """
    if format_name is not None:
        for form in SumsFormat:
            if form.name_in_query == format_name:
                return form
        names = ", ".join(form.name_in_query for form in SumsFormat)
        raise InvalidInput(f"format must be one of {names}, not {format_name[:40]!r}")
    if accept is None or not accept.strip():
        return SumsFormat.JSON
    ranges = [_range(part) for part in accept.split(",") if part.strip()]
    best = max(SumsFormat, key=lambda form: _quality(form, ranges))
    if _quality(best, ranges) <= 0:
        known = ", ".join(form.value for form in SumsFormat)
        raise NotAcceptable(f"none of {accept[:80]!r} is written here; accept one of {known}")
    return best


def quality_among(parameters: Sequence[str]) -> float:
    """The q-value among parameters in lower case (RFC 9110, section 12.4.2); 1 where there is none.

    0 for what is not a q-value, so that nothing is forced on the client.
    """
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            return float(value) if _QUALITY.fullmatch(value.strip()) else 0.0
    return 1.0


def _range(text: str) -> _Range:
    kind, *parameters = (part.strip().lower() for part in text.split(";"))
    return _Range(kind, quality_among(parameters))


def _quality(form: SumsFormat, ranges: list[_Range]) -> float:
    specificity, quality = max(
        ((one.specificity(form.value), one.quality) for one in ranges), default=(0, 0.0)
    )
    return quality if specificity else 0.0
