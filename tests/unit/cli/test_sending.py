"""`send`, `import`, `demo`, `query` and `verify --url`, against a service on a real port."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from flowtally.client.client import FlowClient
from tests.oracle import Oracle
from tests.unit.cli.conftest import Call, Ended

SAMPLE = [
    ("foo", "bar", "vpc-0", 100, 300, 1),
    ("foo", "bar", "vpc-0", 200, 600, 1),
    ("baz", "qux", "vpc-0", 100, 500, 1),
    ("baz", "qux", "vpc-0", 100, 500, 2),
    ("baz", "qux", "vpc-1", 100, 500, 2),
]
FIELDS = ("src_app", "dest_app", "vpc_id", "bytes_tx", "bytes_rx", "hour")
RECORDS = [dict(zip(FIELDS, values, strict=True)) for values in SAMPLE]


def ndjson(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def many(count: int) -> list[dict[str, Any]]:
    return [
        dict(zip(FIELDS, (f"a{n % 7}", "b", "v", n, n * n, n % 2), strict=True))
        for n in range(count)
    ]


def assert_counted(url: str, *sent: list[dict[str, Any]]) -> None:
    """The service holds exactly these records, and says that it balances."""
    oracle = Oracle()
    for records in sent:
        oracle.post(records)
    with FlowClient(url) as client:
        for hour in {*oracle.hours(), 0, 1, 2, 3}:
            assert client.sums(hour) == oracle.hour(hour)
        ledger = client.ledger()
    assert ledger.balances
    assert ledger.total().accepted.records == sum(map(len, sent))


def summary(ended: Ended) -> str:
    """The line of what was sent, without the time it took."""
    assert (ended.code, ended.err) == (0, "")
    return ended.lines[0].partition(" bytes, ")[0]


def test_a_file_sent_twice_counts_once(call: Call, url: str) -> None:
    """As an array and, because that is another input, as lines."""
    Path("f.json").write_text(json.dumps(RECORDS))
    assert summary(call("send", "f.json", "--url", url)).startswith("5 records in 1 batch, ")
    assert_counted(url, RECORDS)
    again = summary(call("send", "f.json", "--url", url))
    assert again.startswith(
        "5 records in 1 batch (1 batch with 5 records of them repeated: counted before, and"
        " not again), "
    )
    assert_counted(url, RECORDS)
    Path("f.ndjson").write_text(ndjson(RECORDS))
    call("send", "f.ndjson", "--url", url)
    assert_counted(url, RECORDS, RECORDS)


def test_the_same_record_twice_in_a_file_counts_twice(call: Call, url: str) -> None:
    Path("f").write_text(ndjson(RECORDS[:1] * 7))
    for _ in range(2):
        call("send", "f", "--url", url, "--batch-records", "2")
        assert_counted(url, RECORDS[:1] * 7)


def test_standard_input_is_the_same_as_the_file(
    call: Call, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = ndjson(many(25))
    Path("f").write_text(text)
    call("send", "f", "--url", url, "--batch-records", "10")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    ended = call("send", "-", "--url", url, "--batch-records", "10")
    assert "(3 batches with 25 records of them repeated" in ended.out
    assert_counted(url, many(25))


def test_a_named_pipe_is_as_good_as_a_file(call: Call, url: str) -> None:
    """As the shell makes one of `<(zcat ...)`."""
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_text(ndjson(RECORDS)))
    writer.start()
    ended = call("send", "pipe", "--url", url)
    writer.join()
    assert summary(ended).startswith("5 records in 1 batch, ")
    assert_counted(url, RECORDS)


def test_a_service_that_is_gone_may_be_sent_the_same_again(call: Call) -> None:
    Path("f").write_text(ndjson(RECORDS))
    ended = call("send", "f", "--url", "http://127.0.0.1:9", "--give-up-after-s", "0")
    assert ended.code == 1
    assert ended.err.splitlines()[0].endswith("; send the same again to go on")


def test_a_file_that_grows_counts_each_line_once(call: Call, url: str) -> None:
    for count in (25, 25, 38, 60):
        Path("f").write_text(ndjson(many(count)) + '{"half of a li')
        ended = call("send", "f", "--url", url, "--batch-records", "10", "--full-batches-only")
        assert ended.code == 0
        assert_counted(url, many(count - count % 10))
        if count % 10:
            assert ended.lines[-1] == f"{count % 10} records left for the next time"
    Path("f").write_text(ndjson(many(63)))
    call("send", "f", "--url", url, "--batch-records", "10")
    assert_counted(url, many(63))


def test_another_key_prefix_counts_again(call: Call, url: str) -> None:
    Path("f").write_text(ndjson(RECORDS))
    call("send", "f", "--url", url)
    call("send", "f", "--url", url, "--key-prefix", "host-2")
    assert_counted(url, RECORDS, RECORDS)


def test_a_bad_record_is_named_as_it_stands_in_the_file(call: Call, url: str) -> None:
    records = many(25)
    records[14]["hour"] = -1
    del records[16]["vpc_id"]
    Path("f").write_text(ndjson(records))
    ended = call("send", "f", "--url", url, "--batch-records", "10", "--connections", "1")
    assert ended.code == 1
    so_far, error, *faults = ended.err.splitlines()
    # The third batch may have been on its way when the second was refused.
    assert so_far.startswith(
        ("so far: 10 records in 1 batch, ", "so far: 15 records in 2 batches, ")
    )
    assert "again" not in so_far, "the same would be refused again"
    assert error.startswith("flowtally: records 11 to 20: the service answered 400: ")
    assert faults == [
        "  record 15 hour: must be from 0 to 2147483647, not -1",
        "  record 17 vpc_id: is missing",
    ]
    assert "Traceback" not in ended.err
    # The file is mended, and sent again: what was counted before the fault is not counted again.
    Path("f").write_text(ndjson(many(25)))
    call("send", "f", "--url", url, "--batch-records", "10")
    with FlowClient(url) as client:
        repeated = client.ledger().total().batches_repeated
    assert repeated >= 1


def test_a_line_with_two_records_is_not_smuggled_in(call: Call, url: str) -> None:
    two = json.dumps(RECORDS[0]) + "," + json.dumps(RECORDS[1])
    Path("f").write_text(two + "\n")
    ended = call("send", "f", "--url", url)
    assert ended.code == 1
    assert "record 1" in ended.err
    assert_counted(url)


LOG = """\
version vpc-id srcaddr dstaddr srcport dstport bytes start action log-status
5 vpc-1 10.0.0.1 10.0.0.2 50000 443 100 3600 ACCEPT OK
5 vpc-1 10.0.0.2 10.0.0.1 443 50000 900 3660 ACCEPT OK
5 vpc-1 10.0.0.1 10.0.0.2 50000 443 100 3700 ACCEPT OK
5 vpc-1 10.0.0.9 10.0.0.2 50000 22 1 3600 REJECT OK
5 vpc-1 - - - - - 3600 - NODATA
5 - 10.0.0.3 10.0.0.4 7 7 5 7200 ACCEPT OK
"""
LOG_SAYS = (
    "6 lines read, 4 records made, skipped: 1 NODATA, 1 REJECT;"
    " addresses: 3 named, 5 kept as they are"
)


def flow(src: str, dest: str, vpc: str, tx: int, rx: int, hour: int) -> dict[str, Any]:
    return dict(zip(FIELDS, (src, dest, vpc, tx, rx, hour), strict=True))


LOG_RECORDS = [
    flow("web", "10.0.0.2", "vpc-1", 100, 0, 1),
    flow("web", "10.0.0.2", "vpc-1", 0, 900, 1),
    flow("web", "10.0.0.2", "vpc-1", 100, 0, 1),
    flow("10.0.0.3", "10.0.0.4", "unknown", 5, 0, 2),
]


@pytest.fixture
def log() -> list[str]:
    Path("names.csv").write_text("10.0.0.1,web\n10.0.0.9/32,ssh\n")
    Path("a.log").write_text(LOG)
    Path("a.log.gz").write_bytes(gzip.compress(LOG.encode()))
    return ["import", "aws-vpc", "a.log", "--names", "names.csv", "--batch-lines", "2"]


def test_a_log_imported_twice_gives_the_sums_of_once(call: Call, url: str, log: list[str]) -> None:
    ended = call(*log, "--url", url)
    assert (ended.code, ended.err) == (0, "")
    assert ended.lines[0].startswith("4 records in 3 batches, ")
    assert ended.lines[1:] == [LOG_SAYS]
    assert_counted(url, LOG_RECORDS)
    log[2] = "a.log.gz"
    ended = call(*log, "a.log", "--url", url)
    assert ended.lines[0].startswith("8 records in 6 batches (6 batches with 8 records of them ")
    assert_counted(url, LOG_RECORDS)
    assert call("verify", "--url", url).code == 0


def test_a_log_of_another_window_counts_though_its_records_are_the_same(
    call: Call, url: str, log: list[str]
) -> None:
    """Its lines differ in their times and ports, which the records do not show."""
    call(*log, "--url", url)
    Path("b.log").write_text(LOG.replace(" 3600 ", " 3601 ").replace(" 50000 ", " 50001 "))
    log[2] = "b.log"
    assert call(*log, "--url", url).code == 0
    assert_counted(url, LOG_RECORDS, LOG_RECORDS)


@pytest.mark.parametrize("options", [["--direction", "as-logged"], ["--action", "ALL"]])
def test_a_log_imported_before_under_other_options_is_refused(
    call: Call, url: str, log: list[str], options: list[str]
) -> None:
    log[-1] = "100"
    call(*log, "--url", url)
    ended = call(*log, *options, "--url", url)
    assert ended.code == 1
    assert ended.err.splitlines()[-1] == (
        "flowtally: a.log was imported before with other names or options; to count its lines once"
        " more, take another --key-prefix"
    )
    assert_counted(url, LOG_RECORDS)
    assert call(*log, *options, "--url", url, "--key-prefix", "2").code == 0


def test_a_bad_line_of_a_log_is_named(call: Call, url: str, log: list[str]) -> None:
    Path("a.log").write_text(LOG + "5 vpc-1 x\n")
    ended = call(*log, "--url", url)
    fault = "a.log:8: has 3 fields, and the format has 10"
    assert (ended.code, ended.err.splitlines()[-1]) == (1, f"flowtally: {fault}")
    ended = call(*log, "--url", url, "--skip-bad")
    assert (ended.code, ended.err) == (0, f"bad line {fault}\n")
    assert "skipped: 1 NODATA, 1 REJECT, 1 bad;" in ended.out
    assert_counted(url, LOG_RECORDS)


def test_the_same_demo_counts_once(call: Call, url: str) -> None:
    demo = ["demo", "--url", url, "--records", "1500", "--hour", "5"]
    assert summary(call(*demo)).startswith("1500 records in 2 batches, ")
    ended = call(*demo, "--rate", "1000000")
    assert "2 batches with 1500 records of them repeated" in ended.out
    assert ended.lines[-1] == "now read an hour: flowtally query --hour 5"
    call(*demo, "--seed", "2")
    ledger = call("verify", "--url", url)
    assert "3000" in ledger.out


HOSTILE = "31m<img>\u202e=1+1"


def test_an_hour_can_be_read_in_each_format(call: Call, url: str) -> None:
    records = [*RECORDS, flow(HOSTILE, "bar", "vpc-0", 1, 2**53 - 1, 1)]
    Path("f").write_text(ndjson(records))
    call("send", "f", "--url", url)
    ended = call("query", "--hour", "1", "--url", url)
    assert (ended.code, ended.err) == (0, "")
    assert ended.lines == [
        "src_app               dest_app  vpc_id  hour          bytes_rx  bytes_tx",
        "'31m<img>\\u202e=1+1'  bar       vpc-0      1  9007199254740991         1",
        "baz                   qux       vpc-0      1               500       100",
        "foo                   bar       vpc-0      1               900       300",
    ]
    oracle = Oracle()
    oracle.post(records)
    found = call("query", "--hour", "1", "--url", url, "--format", "json").out
    assert found.endswith("]\n")
    assert json.loads(found) == oracle.hour(1)
    found = call("query", "--hour", "1", "--url", url, "--format", "ndjson").out
    assert [json.loads(line) for line in found.splitlines()] == oracle.hour(1)
    found = call("query", "--hour", "2", "--url", url, "--format", "csv").out
    assert found.splitlines()[0] == "src_app,dest_app,vpc_id,hour,bytes_rx,bytes_tx"
    assert len(found.splitlines()) == 3
    assert call("query", "--hour", "3", "--url", url).out == "no flows in this hour\n"


def test_an_hour_that_is_none_is_refused(call: Call, url: str) -> None:
    ended = call("query", "--hour", "-1", "--url", url)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("flowtally: the service answered 400: ")


def test_a_running_service_is_verified(call: Call, url: str) -> None:
    Path("f").write_text(ndjson(RECORDS))
    for _ in range(2):
        call("send", "f", "--url", url)
    ended = call("verify", "--url", url)
    assert (ended.code, ended.err) == (0, "")
    asked, heading, *_, accepted, summed, beside, verdict = ended.lines
    assert asked == f"asked the service on {url}"
    assert heading.split()[3:] == ["batches", "records", "bytes_rx", "bytes_tx"]
    assert accepted.split() == ["total", "accepted", "1", "5", "2400", "600"]
    assert summed.split() == ["total", "summed", "1", "5", "2400", "600"]
    assert beside.split(maxsplit=1) == ["total", "beside it: 1 batches repeated, 0 refused"]
    assert verdict == "balances: every accepted batch, record and byte is accounted for"
