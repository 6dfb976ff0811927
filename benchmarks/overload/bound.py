"""How much memory the service may hold by its limits: docs/guides/limits.md has it as a formula.

DuckDB's own memory is bounded by DuckDB (by default 80 % of the machine's) and is not in it: it is
told on /health, and what it was at the end of a load is added.
"""

from __future__ import annotations

from flowtally import limits

FLOW_BYTES = 256
"""Of a flow that waits to be committed: three names of usual length, four numbers, its index."""
DECODED_TIMES = 4
"""How many times its size a body has while it is decoded, and journalled bytes while applied."""
_DECODED_AT_ONCE = 2
"""Bodies of any size, each in a thread."""


def memory_bytes_bound(idle_bytes: int) -> int:
    """What may be resident, from what was when nothing was done."""
    return (
        idle_bytes
        + limits.IN_FLIGHT_BYTES_MAX
        + DECODED_TIMES * (_DECODED_AT_ONCE * limits.BODY_BYTES_MAX + limits.APPLY_BYTES_MAX)
        + FLOW_BYTES * (limits.QUEUE_ROWS_MAX + limits.GROUP_ROWS_MAX)
        + limits.READ_CACHE_BYTES_MAX
    )
