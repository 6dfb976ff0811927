"""Decides whether one more body may come in, by the bytes that are already in flight.

A body is in flight from its first byte until its answer. Counting bytes, not requests, bounds the
memory: one body of 16 MiB weighs as much as a hundred thousand small ones.
"""

from __future__ import annotations

from flowtally.errors import Overloaded


class Admission:
    """Counts the bytes in flight; used from the event loop only, so it takes no lock."""

    def __init__(self, in_flight_bytes_max: int) -> None:
        self.in_flight_bytes_max = in_flight_bytes_max
        self.in_flight_bytes = 0
        self.refused_total = 0

    def admit(self) -> Admitted:
        """Opens an empty account for one body."""
        return Admitted(self)


class Admitted:
    """The account of one body; what was taken is given back at the end of its `with` block."""

    __slots__ = ("_admission", "body_bytes")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.body_bytes = 0

    def __enter__(self) -> Admitted:
        return self

    def __exit__(self, *error: object) -> None:
        self._admission.in_flight_bytes -= self.body_bytes

    def take(self, count: int) -> None:
        """Accounts for `count` more bytes, or raises `Overloaded` and accounts for none."""
        self.require_room(count)
        self._admission.in_flight_bytes += count
        self.body_bytes += count

    def require_room(self, count: int) -> None:
        """Raises `Overloaded` where `count` more bytes could not be taken now. Of a body that is
        announced nothing is accounted for: whoever sends slowly would keep the others out."""
        admission = self._admission
        if admission.in_flight_bytes + count > admission.in_flight_bytes_max:
            admission.refused_total += 1
            raise Overloaded(
                f"{admission.in_flight_bytes} bytes of bodies are being stored, and no more than "
                f"{admission.in_flight_bytes_max} are taken at once",
                retry_after_s=1,
            )
