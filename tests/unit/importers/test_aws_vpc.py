"""AWS VPC flow logs: a line in, a record out, or the reason why not.

The lines are those of AWS's own examples, or made after them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from flowtally.errors import InvalidInput
from flowtally.importers.aws_vpc import Rules, Summary, entries_of
from flowtally.importers.names import Names

SSH = (
    "2 123456789010 eni-1235b8ca123456789 172.31.16.139 172.31.16.21 20641 22 6 20 4249"
    " 1418530010 1418530070 ACCEPT OK"
)
SSH_BACK = (
    "2 123456789010 eni-1235b8ca123456789 172.31.16.21 172.31.16.139 22 20641 6 15 90000"
    " 1418530010 1418530070 ACCEPT OK"
)
RDP = (
    "2 123456789010 eni-1235b8ca123456789 172.31.9.69 172.31.9.12 49761 3389 6 20 4249"
    " 1418530010 1418530070 REJECT OK"
)
NO_DATA = "2 123456789010 eni-1235b8ca123456789 - - - - - - - 1431280876 1431280934 - NODATA"
SKIPPED = "2 123456789010 eni-11111111aaaaaaaaa - - - - - - - 1431280876 1431280934 - SKIPDATA"
HOUR = 1418530010 // 3600


def read(*lines: str, rules: Rules = Rules()) -> tuple[list[dict[str, Any]], Summary]:
    summary = Summary()
    raw = [line.encode(errors="surrogateescape") for line in lines]
    entries = list(entries_of(raw, rules, summary, "f.log"))
    assert [stood for stood, _ in entries] == raw
    return [json.loads(record) for _, record in entries if record is not None], summary


def record(src: str, dest: str, tx: int, rx: int, vpc: str = "unknown") -> dict[str, Any]:
    return {
        "src_app": src,
        "dest_app": dest,
        "vpc_id": vpc,
        "hour": HOUR,
        "bytes_tx": tx,
        "bytes_rx": rx,
    }


A, B = "172.31.16.139", "172.31.16.21"


def test_a_connection_is_one_flow_of_the_side_that_opened_it() -> None:
    found, _ = read(SSH, SSH_BACK)
    assert found == [record(A, B, 4249, 0), record(A, B, 0, 90000)]


def test_as_logged_every_sender_is_a_source() -> None:
    found, _ = read(SSH, SSH_BACK, rules=Rules(by_port=False))
    assert found == [record(A, B, 4249, 0), record(B, A, 90000, 0)]


@pytest.mark.parametrize(
    ("source_port", "dest_port", "opener"),
    [
        pytest.param("20641", "22", A, id="client-to-server"),
        pytest.param("22", "20641", B, id="server-to-client"),
        pytest.param("123", "123", A, id="equal: the sender"),
        pytest.param("0", "0", A, id="icmp: the sender"),
        pytest.param("-", "-", A, id="none: the sender"),
        pytest.param("-", "80", B, id="one-missing"),
        pytest.param("65535", "65534", A, id="high-both"),
    ],
)
def test_the_higher_port_opened(source_port: str, dest_port: str, opener: str) -> None:
    found, _ = read(SSH.replace("20641 22", f"{source_port} {dest_port}"))
    assert found == [record(A, B, 4249, 0) if opener == A else record(B, A, 0, 4249)]


def test_what_is_skipped_is_counted() -> None:
    found, summary = read(SSH, RDP, NO_DATA, SKIPPED, "")
    assert found == [record(A, B, 4249, 0)]
    assert str(summary) == (
        "4 lines read, 1 records made, skipped: 1 NODATA, 1 REJECT, 1 SKIPDATA;"
        " addresses: 0 named, 2 kept as they are"
    )


@pytest.mark.parametrize(("action", "records"), [("ACCEPT", 1), ("REJECT", 1), ("ALL", 2)])
def test_which_actions_count(action: str, records: int) -> None:
    found, summary = read(SSH, RDP, NO_DATA, rules=Rules(action=action))
    assert len(found) == summary.records == records


V5 = (
    "version vpc-id subnet-id instance-id srcaddr dstaddr srcport dstport protocol tcp-flags type"
    " pkt-srcaddr pkt-dstaddr action log-status bytes start flow-direction traffic-path"
)
V5_LINE = (
    "5 vpc-abcdefab012345678 subnet-aaaaaaaa012345678 i-01234567890123456 172.31.16.139"
    " 172.31.16.21 20641 22 6 19 IPv4 172.31.16.139 172.31.16.21 ACCEPT OK 4249 1418530010"
    " ingress -"
)
V5_NO_DATA = "5 vpc-a subnet-b - - - - - - - - - - - NODATA - 1418530010 - -"


def test_a_header_names_the_fields_in_any_order() -> None:
    found, summary = read(V5, V5_LINE, V5_NO_DATA)
    assert found == [record(A, B, 4249, 0, "vpc-abcdefab012345678")]
    assert summary.skipped == {"NODATA": 1}


def test_a_header_may_come_again_with_other_fields() -> None:
    other = "dstaddr srcaddr bytes start action"
    found, summary = read(SSH, other, f"{B} {A} 7 1418530010 ACCEPT", V5, V5_LINE)
    assert [one["bytes_tx"] for one in found] == [4249, 7, 4249]
    assert summary.lines == 3


def test_a_line_without_a_status_and_without_traffic_is_skipped() -> None:
    header = "srcaddr dstaddr bytes start action"
    _, summary = read(header, "- - - 1418530010 -", f"{A} {B} 1 1418530010 ACCEPT")
    assert (summary.records, summary.skipped) == (1, {"without traffic": 1})


def test_the_vpc_is_the_lines_or_the_one_given() -> None:
    rules = Rules(vpc_id="vpc-mine")
    found, _ = read(
        SSH,
        "vpc-id srcaddr dstaddr bytes start action",
        f"vpc-7 {A} {B} 1 1418530010 ACCEPT",
        f"- {A} {B} 1 1418530010 ACCEPT",
        rules=rules,
    )
    assert [one["vpc_id"] for one in found] == ["vpc-mine", "vpc-7", "vpc-mine"]


def test_names_stand_for_addresses() -> None:
    names = Names()
    names.add("172.31.16.0/24", "shop")
    names.add(B, "bastion")
    found, summary = read(SSH, SSH.replace(B, "192.0.2.1"), rules=Rules(names))
    assert found == [record("shop", "bastion", 4249, 0), record("shop", "192.0.2.1", 4249, 0)]
    assert (summary.addresses_named, summary.addresses_kept) == (3, 1)


def test_addresses_of_version_6() -> None:
    names = Names()
    names.add("2001:db8:1234:a102:3304:8879::/96", "lab")
    line = SSH.replace(A, "2001:db8:1234:a100:8d6e:3477:df66:f105").replace(
        B, "2001:db8:1234:a102:3304:8879:34cf:4071"
    )
    found, _ = read(line, rules=Rules(names))
    assert found == [record("2001:db8:1234:a100:8d6e:3477:df66:f105", "lab", 4249, 0)]


BAD = [
    pytest.param(SSH + " x", "has 15 fields, and the format has 14", id="too-many"),
    pytest.param("hello", "has 1 fields, and the format has 14", id="too-few"),
    pytest.param(SSH.replace(" 4249 ", " -1 "), "bytes must be a number, not '-1'", id="negative"),
    pytest.param(SSH.replace(" 4249 ", " 4e3 "), "bytes must be a number", id="float"),
    pytest.param(SSH.replace(" 4249 ", " ４２ "), "bytes must be a number", id="other-digits"),
    pytest.param(SSH.replace(" 4249 ", f" {2**53} "), "bytes_tx must be from 0", id="too-large"),
    pytest.param(SSH.replace(" 4249 ", f" {'9' * 5000} "), "bytes must be a number", id="huge"),
    pytest.param(SSH.replace("1418530010", "now"), "start must be a number", id="start"),
    pytest.param(SSH.replace("1418530010", "9" * 19), "hour must be from 0", id="far-future"),
    pytest.param(SSH.replace(A, "somewhere"), "'somewhere' does not appear to be", id="address"),
    pytest.param(SSH.replace(" 22 ", " 65536 "), "dstport must be a port, not 65536", id="port"),
    pytest.param(SSH.replace(" 22 ", " ssh "), "dstport must be a number", id="port-name"),
    pytest.param(SSH.replace("ACCEPT", "accept"), "action must be ACCEPT or REJECT", id="action"),
    pytest.param(SSH.replace(A, "\udcff\udcfe"), "does not appear to be", id="no-text"),
]


@pytest.mark.parametrize(("line", "fault"), BAD)
def test_a_bad_line_is_named_and_ends_it(line: str, fault: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(SSH, "", line)
    assert str(caught.value).startswith("f.log:3: ")
    assert fault in str(caught.value)


def test_bad_lines_can_be_skipped_and_are_named() -> None:
    bad = [param.values[0] for param in BAD]
    found, summary = read(SSH, *map(str, bad), SSH, rules=replace(Rules(), skip_bad=True))
    assert found == [record(A, B, 4249, 0)] * 2
    assert summary.skipped == {"bad": len(bad)}
    assert len(summary.bad) == 10
    assert summary.bad[0] == "f.log:2: has 15 fields, and the format has 14"
    assert summary.addresses_kept == 4


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("srcaddr dstaddr start action", "the header lacks bytes"),
        ("pkt-srcaddr pkt-dstaddr bytes start", "the header lacks srcaddr, dstaddr"),
        ("srcaddr dstaddr bytes bytes start action", "names a field twice"),
        ("srcaddr dstaddr bytes start", "if all shall count, take --action ALL"),
    ],
)
def test_a_header_that_says_too_little(header: str, fault: str) -> None:
    with pytest.raises(InvalidInput, match=f"^f.log:1: .*{fault}"):
        read(header)


def test_without_an_action_all_lines_count_if_told() -> None:
    header = "srcaddr dstaddr bytes start"
    found, _ = read(header, f"{A} {B} 5 1418530010", rules=Rules(action="ALL"))
    assert found == [record(A, B, 5, 0)]
