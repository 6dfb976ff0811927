"""When to try again."""

from __future__ import annotations

import pytest

from flowtally.client.retry import RetryPolicy

POLICY = RetryPolicy(give_up_after_s=60, first_wait_s=0.1, wait_s_max=10)


@pytest.mark.parametrize(
    ("attempt", "elapsed_s", "draw", "retry_after_s", "wait_s"),
    [
        pytest.param(0, 0, 1.0, 0, 0.1, id="first"),
        pytest.param(1, 0, 1.0, 0, 0.2, id="doubles"),
        pytest.param(3, 0, 0.5, 0, 0.4, id="jitter"),
        pytest.param(3, 0, 0.0, 0, 0.0, id="jitter-may-be-nothing"),
        pytest.param(50, 0, 1.0, 0, 10.0, id="bounded"),
        pytest.param(10**9, 0, 1.0, 0, 10.0, id="no-overflow"),
        pytest.param(0, 0, 1.0, 7, 7.0, id="server-says-when"),
        pytest.param(20, 0, 1.0, 7, 10.0, id="server-says-a-floor"),
        pytest.param(0, 50, 1.0, 10, 10.0, id="just-in-time"),
        pytest.param(0, 51, 1.0, 10, None, id="would-be-too-late"),
        pytest.param(0, 60.1, 0.0, 0, None, id="too-late"),
        pytest.param(0, 0, 0.0, 3600, None, id="no-use-in-waiting"),
    ],
)
def test_how_long_to_wait(
    attempt: int, elapsed_s: float, draw: float, retry_after_s: float, wait_s: float | None
) -> None:
    assert POLICY.wait_s(attempt, elapsed_s, draw, retry_after_s) == pytest.approx(wait_s)
