"""Addresses into names: the longest prefix wins, in both versions of IP."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowtally.errors import InvalidInput
from flowtally.importers.names import Names

CSV = """\
# address or CIDR, name
10.0.0.0/8,inside
10.1.0.0/16 , shop
10.1.2.3,till
"10.1.2.0/24","tills, old"
2001:db8::/32,inside-6
2001:db8:1::/48,shop-6
2001:db8:1::1/128,till-6
"""


def read(tmp_path: Path, text: str | bytes) -> Names:
    path = tmp_path / "names.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Names.read(path)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("10.200.0.1", "inside"),
        ("10.1.0.1", "shop"),
        ("10.1.2.4", "tills, old"),
        ("10.1.2.3", "till"),
        ("11.0.0.1", None),
        ("2001:db8::1", "inside-6"),
        ("2001:DB8:1::2", "shop-6"),
        ("2001:db8:1:0:0:0:0:1", "till-6"),
        ("2001:db9::1", None),
        ("::10.1.2.3", None),
    ],
)
def test_the_longest_prefix_wins(tmp_path: Path, address: str, name: str | None) -> None:
    names = read(tmp_path, b"\xef\xbb\xbf" + CSV.encode())
    assert names.find(address) == name


networks = st.ip_addresses(network="10.0.0.0/28") | st.ip_addresses(network="2001:db8::/124")


@given(st.lists(st.tuples(networks, st.integers(0, 6)), max_size=8), networks)
def test_it_finds_what_a_search_through_all_would(
    lines: list[tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]],
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    names = Names()
    known = {}
    for one, wide in lines:
        network = ipaddress.ip_network(f"{one}/{one.max_prefixlen - wide}", strict=False)
        known[network] = str(network)
        names.add(str(network), str(network))
    covering = [network for network in known if address in network]
    best = max(covering, key=lambda network: network.prefixlen, default=None)
    assert names.find(str(address)) == (known[best] if best else None)


def test_everything_can_be_named() -> None:
    names = Names()
    names.add("0.0.0.0/0", "internet")
    assert names.find("255.255.255.255") == "internet"
    assert names.find("::1") is None
    names.add("::/0", "internet")
    assert names.find("::1") == "internet"


@pytest.mark.parametrize("text", ["", "-", "10.0.0", "10.0.0.1/32", "fe80::1%eth0%"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Names().find(text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("10.0.0.1", ":1: must be address,name"),
        ("10.0.0.1,a,b", ":1: must be address,name"),
        ("#\n\n10.0.0.1,", ":3: the name has 0 bytes"),
        ("10.0.0.1," + "x" * 257, ":1: the name has 257 bytes"),
        ("10.0.0.1,a\x07b", ":1: the name holds the control character U+0007"),
        ("10.0.0.256,a", ":1: '10.0.0.256' does not appear to be"),
        ("10.0.0.0/33,a", ":1: '10.0.0.0/33' does not appear to be"),
        ("10.0.0.0/8,a\n10.1.1.1/8,b", ":2: 10.0.0.0/8 has the name a already"),
        (b"10.0.0.1,\xff", "cannot be read"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str | bytes, fault: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "names.csv"))
    assert fault in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        Names.read(tmp_path / "gone.csv")


def test_the_same_line_twice_does_no_harm(tmp_path: Path) -> None:
    assert read(tmp_path, "10.0.0.1,a\n10.0.0.1/32,a\n").find("10.0.0.1") == "a"
