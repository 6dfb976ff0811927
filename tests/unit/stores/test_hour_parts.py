"""The parts of an hour: merged, cut, taken away from, and held against a dict of integers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import chain

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowtally.errors import DamagedData
from flowtally.stores.hourly import hour_parts
from flowtally.stores.hourly.files import check_results
from flowtally.stores.hourly.hour_parts import add_rows, drop_arrivals, served_arrival_hour
from flowtally.stores.hourly.parts import decode_part, encode_part, negated, summed
from flowtally.stores.hourly.results import ALL, Results

Amounts = tuple[int, int, int]
Rows = dict[tuple[str, str, str], Amounts]

names = st.sampled_from(["a", "b", "ab", "é", "\uffff", "\U0001f600", "x" * 256])
rows_strategy = st.dictionaries(
    st.tuples(names, names, st.sampled_from(["v", "w"])),
    st.tuples(
        st.sampled_from([0, 1, 2**64, 2**100]), st.integers(0, 2**53), st.integers(1, 100_000)
    ),
    min_size=1,
    max_size=12,
)


def table_of(rows: Rows) -> pa.Table:
    """As gathered rows are: sorted, a flow once."""
    decimal = pa.decimal128(38, 0)
    flows = sorted(rows)
    columns = [pa.array([flow[index] for flow in flows], pa.string()) for index in range(3)]
    for index, kind in enumerate((decimal, decimal, pa.int64())):
        columns.append(pa.array([rows[flow][index] for flow in flows], kind))
    keys = ["src_app", "dest_app", "vpc_id", "bytes_rx", "bytes_tx", "records"]
    return pa.table(columns, names=keys)


def rows_in(table: pa.Table) -> Rows:
    found: Rows = {}
    for one in table.to_pylist():
        flow = (one["src_app"], one["dest_app"], one["vpc_id"])
        assert flow not in found
        found[flow] = (int(one["bytes_rx"]), int(one["bytes_tx"]), one["records"])
    assert list(found) == sorted(found, key=lambda flow: tuple(name.encode() for name in flow))
    return found


def added(*several: Rows) -> Rows:
    """The oracle."""
    total: Rows = {}
    for flow, amounts in chain.from_iterable(rows.items() for rows in several):
        was = total.get(flow, (0, 0, 0))
        total[flow] = (was[0] + amounts[0], was[1] + amounts[1], was[2] + amounts[2])
    return total


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    results = Results(tmp_path_factory.mktemp("results") / "results.sqlite")
    results.open("folder")
    yield results
    results.close()


def served(cursor: sqlite3.Cursor, hour: int) -> Rows:
    arrival_hour = served_arrival_hour(cursor.connection, hour)
    if arrival_hour is None:
        return {}
    tables = list(hour_parts.tables_of(cursor, hour, arrival_hour))
    assert all(0 < table.num_rows <= hour_parts.PART_FLOWS_MAX for table in tables)
    return rows_in(pa.concat_tables(tables))


@given(rows=rows_strategy)
def test_a_part_is_its_table_again(rows: Rows) -> None:
    table = table_of(rows)
    assert decode_part(encode_part(table)).equals(table)


def test_a_large_part_takes_a_dozen_bytes_a_flow() -> None:
    rows: Rows = {
        (f"service-{number % 200:03}", f"service-{number // 200:03}", "vpc-1"): (number, 7, 1)
        for number in range(20_000)
    }
    part = encode_part(table_of(rows))
    assert rows_in(decode_part(part)) == rows
    assert len(part) < 12 * len(rows)


@pytest.mark.parametrize("at", [0, 2, 5, 300, -1])
def test_a_damaged_part_is_found(at: int) -> None:
    part = bytearray(encode_part(table_of({("a", "b", "v"): (1, 2, 3)})))
    part[at] ^= 1
    with pytest.raises(ValueError, match="a part"):
        decode_part(bytes(part))
    with pytest.raises(ValueError, match="cut off"):
        decode_part(bytes(part[:7]))


@given(several=st.lists(rows_strategy, min_size=1, max_size=4))
def test_what_is_taken_away_again_leaves_the_rest(several: list[Rows]) -> None:
    tables = [table_of(rows) for rows in several]
    first, *others = tables
    total = summed(tables)
    left = rows_in(summed([total, *map(negated, others)]))
    kept = {flow: amounts for flow, amounts in left.items() if amounts[2]}
    assert kept == rows_in(first)
    assert all(amounts == (0, 0, 0) for flow, amounts in left.items() if flow not in kept)


@given(
    arrivals=st.lists(st.tuples(st.integers(1, 4), rows_strategy), min_size=1, max_size=8),
    before=st.integers(1, 5),
    flows_max=st.sampled_from([2, 3, 1_000]),
)
def test_an_hour_is_the_sum_of_what_came_and_is_not_dropped(
    results: Results, arrivals: list[tuple[int, Rows]], before: int, flows_max: int
) -> None:
    """However its parts are cut, in whatever order it came."""
    with pytest.MonkeyPatch.context() as patch, results.transaction() as cursor:
        patch.setattr(hour_parts, "PART_FLOWS_MAX", flows_max)
        for arrival_hour, rows in arrivals:
            add_rows(cursor, 7, [(arrival_hour, table_of(rows))])
        assert served(cursor, 7) == added(*(rows for _, rows in arrivals))
        assert list(check_results(cursor.connection)) == []
        kept = [rows for arrival_hour, rows in arrivals if arrival_hour >= before]
        assert drop_arrivals(cursor, 7, before) == (not kept)
        assert served(cursor, 7) == added(*kept)
        assert list(check_results(cursor.connection)) == []


def test_only_parts_that_rows_fall_into_are_written(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hour_parts, "PART_FLOWS_MAX", 4)
    rows: Rows = {(f"{letter}", "b", "v"): (1, 1, 1) for letter in "abcdefghij"}
    numbers = "SELECT part FROM parts WHERE hour = 7 ORDER BY first_flow"
    with results.transaction() as cursor:
        add_rows(cursor, 7, [(1, table_of(rows))])
        before = cursor.execute(numbers).fetchall()
        add_rows(cursor, 7, [(1, table_of({("a", "b", "v"): (1, 1, 1)}))])
        after = cursor.execute(numbers).fetchall()
        assert len(before) == len(after) == 4
        assert after[1:] == before[1:]


def test_more_taken_away_than_there_is_is_damage(results: Results) -> None:
    with results.transaction() as cursor:
        add_rows(cursor, 7, [(hour, table_of({("a", "b", "v"): (5, 5, 1)})) for hour in (1, 2, 3)])
        part = encode_part(table_of({("a", "b", "v"): (1, 1, 1)}))
        cursor.execute("UPDATE parts SET sums = ? WHERE arrival_hour = ?", (part, ALL))
        faults = list(check_results(cursor.connection))
        assert faults == ["hour 7: a part does not hold what is noted of it"]
        with pytest.raises(DamagedData, match="more is to be dropped"):
            drop_arrivals(cursor, 7, 2)
