"""Addresses into app names, by a CSV of `address or CIDR,name`; the longest prefix wins."""

from __future__ import annotations

import csv
import ipaddress
from functools import lru_cache
from pathlib import Path

from flowtally.errors import InvalidInput
from flowtally.wire.rules import name_fault

_CACHED = 100_000


class Names:
    """Looks addresses up; one that no line covers keeps its own text as its name."""

    def __init__(self) -> None:
        self._by_prefix: dict[tuple[int, int], dict[int, str]] = {}
        """By IP version and length of the prefix: the prefix's bits, to the name."""
        self._prefixes: list[tuple[int, int]] = []
        self.find = lru_cache(_CACHED)(self._find)

    def add(self, address: str, name: str) -> None:
        """Names an address or a CIDR. Raises `ValueError` where either is not good."""
        network = ipaddress.ip_network(address, strict=False)
        fault = name_fault(name)
        if fault is not None:
            raise ValueError(f"the name {fault}")
        prefix = (network.version, network.prefixlen)
        bits = int(network.network_address) >> network.max_prefixlen - network.prefixlen
        named = self._by_prefix.setdefault(prefix, {})
        if named.setdefault(bits, name) != name:
            raise ValueError(f"{network} has the name {named[bits]} already")
        self._prefixes = sorted(self._by_prefix, key=lambda prefix: -prefix[1])
        self.find.cache_clear()

    @classmethod
    def read(cls, path: Path) -> Names:
        """Reads a CSV; `#` begins a comment. Raises `InvalidInput` naming the line."""
        names = cls()
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = csv.reader(file)
                for row in rows:
                    if not row or row[0].lstrip().startswith("#"):
                        continue
                    try:
                        address, name = (cell.strip() for cell in row)
                    except ValueError:
                        raise InvalidInput(
                            f"{path}:{rows.line_num}: must be address,name"
                        ) from None
                    try:
                        names.add(address, name)
                    except ValueError as error:
                        raise InvalidInput(f"{path}:{rows.line_num}: {error}") from error
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InvalidInput(f"{path} cannot be read: {error}") from error
        return names

    def _find(self, text: str) -> str | None:
        """The name of an address, or None. Raises `ValueError` where it is no address."""
        address = ipaddress.ip_address(text)
        number = int(address)
        for version, length in self._prefixes:
            if version == address.version:
                bits = number >> address.max_prefixlen - length
                name = self._by_prefix[version, length].get(bits)
                if name is not None:
                    return name
        return None
