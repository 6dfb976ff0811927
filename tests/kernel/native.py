"""The kernel as the tests get it: where it is not built they are skipped, and say so.

With REQUIRE_KERNEL=1 nothing is skipped: a kernel that is missing is then a failure. The name does
not begin with FLOWTALLY_: a started service would refuse such a setting, which it does not know.
"""

from __future__ import annotations

import os

import pytest

if os.environ.get("REQUIRE_KERNEL") != "1":
    pytest.importorskip(
        "flowtally_kernel", reason="the native kernel is not built (kernel/build.sh builds it)"
    )

import flowtally_kernel as kernel

__all__ = ["kernel"]
