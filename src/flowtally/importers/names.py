"""Addresses into app names, by a CSV of `address or CIDR,name`; the longest prefix wins."""

from __future__ import annotations

import csv
import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from flowtally.errors import InvalidInput

_CACHED = 100_000


class Names:
    """Looks addresses up; one that no line covers keeps its own text as its name."""

    def __init__(self, lines: Iterable[tuple[str, str]] = ()) -> None:
        self._by_prefix: dict[tuple[int, int], dict[int, str]] = {}
        for address, name in lines:
            network = ipaddress.ip_network(address.strip(), strict=False)
            key = (network.version, network.prefixlen)
            shift = network.max_prefixlen - network.prefixlen
            self._by_prefix.setdefault(key, {})[
                int(network.network_address) >> shift
            ] = name
        self._prefixes = sorted(self._by_prefix, key=lambda key: -key[1])
        self.find = lru_cache(_CACHED)(self._find)

    @classmethod
    def read(cls, path: Path) -> Names:
        """Reads a CSV; `#` begins a comment. Raises `InvalidInput` naming the line."""
        lines: list[tuple[str, str]] = []
        try:
            with path.open(newline="", encoding="utf-8") as file:
                for number, row in enumerate(csv.reader(file), start=1):
                    if not row or row[0].lstrip().startswith("#"):
                        continue
                    if len(row) != 2 or not row[1].strip():
                        raise InvalidInput(f"{path}:{number}: must be address,name")
                    try:
                        ipaddress.ip_network(row[0].strip(), strict=False)
                    except ValueError as error:
                        raise InvalidInput(f"{path}:{number}: {error}") from error
                    lines.append((row[0], row[1].strip()))
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{path} cannot be read: {error}") from error
        return cls(lines)

    def _find(self, text: str) -> str | None:
        """The name of an address, or None. Raises `ValueError` where it is no address."""
        address = ipaddress.ip_address(text)
        number = int(address)
        for version, length in self._prefixes:
            if version == address.version:
                name = self._by_prefix[version, length].get(
                    number >> address.max_prefixlen - length
                )
                if name is not None:
                    return name
        return None
