"""What verifying found, whatever the store: each store's own `verify` makes one."""

from __future__ import annotations

from dataclasses import dataclass

from flowtally.model import Ledger


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The account, and a line for each fault of a file or a database."""

    ledger: Ledger
    faults: tuple[str, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Whether every record is accounted for and all that holds them is whole."""
        return self.ledger.balances and not self.faults
