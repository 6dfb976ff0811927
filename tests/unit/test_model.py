"""The nouns: what a tally sums, and the arithmetic of the ledger."""

from __future__ import annotations

import pytest

from flowtally.model import Account, Flow, Ledger, LedgerLine, Receipt, Tally

FLOW = Flow("a", "b", "v", 1)


def test_a_tally_sums_by_flow() -> None:
    tally = Tally()
    tally.add(FLOW, 1, 2)
    tally.add(Flow("a", "b", "v", 2), 10, 20)
    tally.add(("a", "b", "v", 1), 3, 4, records=5)
    assert dict(tally) == {FLOW: [4, 6, 6], Flow("a", "b", "v", 2): [10, 20, 1]}
    assert len(tally) == 2
    assert tally.hours() == {1, 2}
    assert tally.account() == Account(batches=1, records=7, bytes_rx=14, bytes_tx=26)


def test_an_empty_tally_is_one_batch_of_nothing() -> None:
    assert Tally().account() == Account(batches=1)
    assert Tally().hours() == set()
    assert len(Tally()) == 0


def test_sums_do_not_wrap() -> None:
    tally = Tally()
    for _ in range(4):
        tally.add(FLOW, 2**63, 2**64 - 1)
    assert dict(tally)[FLOW] == [2**65, 2**66 - 4, 4]
    assert tally.account().bytes_rx == 2**65


def test_names_with_separators_are_flows_of_their_own() -> None:
    tally = Tally()
    for src, dest in (("a|b", "c"), ("a", "b|c"), ("a\x1fb", "c"), ("a", "b\x1fc")):
        tally.add(Flow(src, dest, "v", 1), 1, 1)
    assert len(tally) == 4


def test_tallies_are_equal_by_their_rows_and_cannot_be_hashed() -> None:
    assert Tally({FLOW: [1, 2, 1]}) == Tally({("a", "b", "v", 1): [1, 2, 1]})
    assert Tally({FLOW: [1, 2, 1]}) != Tally({FLOW: [1, 2, 2]})
    assert Tally() != {}
    with pytest.raises(TypeError):
        hash(Tally())
    assert repr(Tally({FLOW: [1, 2, 3]})) == "Tally(flows=1, records=3)"


def test_accounts_add_and_subtract_column_by_column() -> None:
    first, second = Account(1, 20, 300, 4_000), Account(2, 30, 400, 5_000)
    assert first + second == Account(3, 50, 700, 9_000)
    assert second - first == Account(1, 10, 100, 1_000)
    assert first - first == Account()


@pytest.mark.parametrize(
    ("line", "difference"),
    [
        pytest.param(LedgerLine(1), Account(), id="nothing"),
        pytest.param(
            LedgerLine(
                1,
                accepted=Account(6, 60, 600, 6_000),
                summed=Account(3, 30, 300, 3_000),
                pending=Account(2, 20, 200, 2_000),
                expired=Account(1, 10, 100, 1_000),
            ),
            Account(),
            id="accounted-for",
        ),
        pytest.param(
            LedgerLine(1, accepted=Account(1, 2, 3, 4), summed=Account(1, 2, 3, 5)),
            Account(0, 0, 0, -1),
            id="one-byte-extra",
        ),
        pytest.param(
            LedgerLine(1, accepted=Account(1, 2, 3, 4), pending=Account(1, 1, 3, 4)),
            Account(0, 1, 0, 0),
            id="one-record-lost",
        ),
        pytest.param(
            LedgerLine(1, batches_repeated=3, batches_refused=4),
            Account(),
            id="repeated-and-refused-stand-beside",
        ),
    ],
)
def test_a_line_balances_when_everything_is_accounted_for(
    line: LedgerLine, difference: Account
) -> None:
    assert line.difference == difference
    assert line.balances == (difference == Account())


def test_a_ledger_balances_line_by_line_and_not_only_in_total() -> None:
    lost = LedgerLine(1, accepted=Account(1, 1, 5, 5))
    extra = LedgerLine(2, summed=Account(1, 1, 5, 5))
    assert Ledger((lost, extra)).total().balances
    assert not Ledger((lost, extra)).balances
    assert Ledger().balances
    assert Ledger().total() == LedgerLine(-1)


def test_the_total_adds_every_column() -> None:
    line = LedgerLine(
        1, Account(9, 9, 9, 9), Account(4, 4, 4, 4), Account(3, 3, 3, 3), Account(2, 2, 2, 2), 5, 6
    )
    assert Ledger((line, line)).total() == LedgerLine(
        -1,
        Account(18, 18, 18, 18),
        Account(8, 8, 8, 8),
        Account(6, 6, 6, 6),
        Account(4, 4, 4, 4),
        10,
        12,
    )


def test_a_receipt_is_of_a_first_time_unless_it_says_otherwise() -> None:
    assert not Receipt("key", 1, 1).repeated
