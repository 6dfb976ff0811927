"""The one table of what is answered where: path, method, version, alias, deprecation.

Made from it are the write path's lookup, FastAPI's routes, the `Allow` of a 405, the paths of the
OpenAPI document, and the headers that tell a client which version answered and whether it has to
move. What answers an operation is said where it is answered, by the operation's name.

Paths are literal. Only `/v1/flows` has an alias without a version: agents in the field use that
one; any other would be a second contract that no version number ever lets go of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

WRITE_OPERATION = "postFlows"
"""Stands in front of FastAPI; all others are answered by it."""


@dataclass(frozen=True, slots=True)
class Deprecation:
    """That something should no longer be used: from when on, until when it is answered at all, and
    where to read what to do. It is announced; nothing is refused by it."""

    since: datetime
    link: str
    sunset: datetime | None = None

    def __post_init__(self) -> None:
        moments = [self.since] if self.sunset is None else [self.since, self.sunset]
        if any(moment.tzinfo is None for moment in moments):
            raise ValueError("a deprecation's moments need a time zone")
        if moments != sorted(moments):
            raise ValueError("a sunset cannot come before its deprecation (RFC 9745, section 4)")
        if not self.link.isascii() or any(mark in self.link for mark in '<>"\r\n '):
            raise ValueError("a deprecation's link must be a URI reference")

    def headers(self) -> dict[str, str]:
        """`Deprecation` (RFC 9745), `Sunset` (RFC 8594), and the link that both refer to."""
        found = {
            "Deprecation": f"@{int(self.since.timestamp())}",
            "Link": f'<{self.link}>; rel="deprecation"; type="text/html"',
        }
        if self.sunset is not None:
            found["Sunset"] = format_datetime(self.sunset.astimezone(UTC), usegmt=True)
            found["Link"] += f', <{self.link}>; rel="sunset"; type="text/html"'
        return found


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the API; it is what stands before its paths."""

    name: str
    deprecation: Deprecation | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. `path` follows the version, where there is one; an alias is without."""

    method: str
    path: str
    operation: str
    version: Version | None = None
    has_alias: bool = False
    deprecation: Deprecation | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """One method of one whole path."""

    method: str
    path: str
    operation: str
    operation_id: str
    """Differs from the operation's name where another place answers the same."""
    deprecation: Deprecation | None
    head: bytes
    """The lines of every answer's head that the table decides."""


class RouteTable:
    """The places that some routes make."""

    def __init__(self, routes: Iterable[Route], newest: Version) -> None:
        self.newest = newest
        """The version that is told where a path names none."""
        self.head = _head(newest, None)
        """What `Place.head` is where there is no place."""
        self.places = tuple(place for route in routes for place in self._places(route))
        self._by_key = {(place.method, place.path): place for place in self.places}
        if len(self._by_key) != len(self.places):
            raise ValueError("two routes have the same method and path")

    def find(self, method: str, path: str) -> Place | None:
        """What answers there; `HEAD` wherever `GET` does."""
        return self._by_key.get(("GET" if method == "HEAD" else method, path))

    def allow(self, path: str) -> str:
        """The `Allow` of a path (RFC 9110, section 10.2.1)."""
        methods = {place.method for place in self.places if place.path == path}
        return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))

    def _places(self, route: Route) -> Iterator[Place]:
        version = route.version
        deprecation = route.deprecation
        if deprecation is None and version is not None:
            deprecation = version.deprecation
        head = _head(version or self.newest, deprecation)
        name, method, path = route.operation, route.method, route.path
        if version is None:
            yield Place(method, path, name, name, deprecation, head)
            return
        suffix = "" if version == self.newest else version.name.capitalize()
        whole = f"/{version.name}{path}"
        yield Place(method, whole, name, name + suffix, deprecation, head)
        if route.has_alias:
            yield Place(method, path, name, f"{name}Unversioned", deprecation, head)


def _head(version: Version, deprecation: Deprecation | None) -> bytes:
    told = {"API-Version": version.name, **(deprecation.headers() if deprecation else {})}
    return "".join(f"{name.lower()}: {value}\r\n" for name, value in told.items()).encode()


V1 = Version("v1")
ROUTES = RouteTable(
    [
        Route("POST", "/flows", WRITE_OPERATION, V1, has_alias=True),
        Route("GET", "/flows", "getFlows", V1, has_alias=True),
        Route("GET", "/hours", "getHours", V1),
        Route("GET", "/ledger", "getLedger", V1),
        Route("POST", "/aggregate", "aggregate", V1),
        Route("POST", "/backup", "backup", V1),
        Route("GET", "/livez", "livez"),
        Route("GET", "/readyz", "readyz"),
        Route("GET", "/health", "health"),
        Route("GET", "/version", "version"),
        Route("GET", "/openapi.json", "openapi"),
        Route("GET", "/metrics", "metrics"),
        Route("GET", "/docs", "docs"),
        Route("GET", "/docs/problems", "problems"),
        Route("GET", "/", "index"),
    ],
    newest=V1,
)
