"""The ledger of a store behind the journal, put together from what each of its two files says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowtally.ingest.journal_rows import AcceptedLine
from flowtally.model import Account, Ledger, LedgerLine

Accounts = Mapping[int, Account]
"""By arrival hour."""


def ledger_of(
    accepted: Sequence[AcceptedLine], summed: Accounts, pending: Accounts, expired: Accounts
) -> Ledger:
    """The account, a line for each arrival hour that any of them knows."""
    journalled = {line.arrival_hour: line for line in accepted}
    nothing = Account()
    lines = []
    for arrival_hour in sorted({*journalled, *summed, *pending, *expired}):
        line = journalled.get(arrival_hour, AcceptedLine(arrival_hour, nothing, 0, 0))
        lines.append(
            LedgerLine(
                arrival_hour,
                accepted=line.accepted,
                summed=summed.get(arrival_hour, nothing),
                pending=pending.get(arrival_hour, nothing),
                expired=expired.get(arrival_hour, nothing),
                batches_repeated=line.batches_repeated,
                batches_refused=line.batches_refused,
            )
        )
    return Ledger(tuple(lines))
