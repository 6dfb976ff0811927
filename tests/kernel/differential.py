"""Holds the kernel against its twin for as many bodies as wanted; prints each difference.

    python -m tests.kernel.differential --bodies 1000000 --seed 1

Bodies are numbered; number K of seed N is `body_of("N:K")`. The kernel remembers the layouts of
earlier bodies, so that a difference is repeated by running the same seed from its start.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.kernel.comparing import accepted_alike
from tests.kernel.making import body_of

DIFFERENCES_MAX = 10
PROGRESS_BODIES = 50_000


def main() -> int:
    """Exits with 1 where any body was read differently."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bodies", type=int, default=100_000)
    parser.add_argument(
        "--seed", default=str(random.randrange(10**9)), help="printed, to be given again"
    )
    arguments = parser.parse_args()
    accepted = differences = done = octets = 0
    began = time.perf_counter()

    def say() -> None:
        rate = done / (time.perf_counter() - began)
        print(
            f"seed {arguments.seed}: {done:,} bodies ({octets / 1e6:,.0f} MB),"
            f" {accepted:,} accepted, {done - accepted - differences:,} refused,"
            f" {differences} differences, {rate:,.0f} bodies/s",
            flush=True,
        )

    for number in range(arguments.bodies):
        form, body = body_of(f"{arguments.seed}:{number}")
        try:
            accepted += accepted_alike(form, body)
        except Exception as fault:
            differences += 1
            print(f"body {number}, {form}: {type(fault).__name__}: {fault}\n  {body!r}", flush=True)
        done += 1
        octets += len(body)
        if done % PROGRESS_BODIES == 0:
            say()
        if differences == DIFFERENCES_MAX:
            break
    say()
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
