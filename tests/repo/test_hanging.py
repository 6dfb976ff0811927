"""A test that waits for ever fails, and says where each thread waits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HANGING = """
import asyncio
import threading

def worker():
    threading.Event().wait()

def test_hangs():
    threading.Thread(target=worker, name="the-worker", daemon=True).start()
    asyncio.run(asyncio.Event().wait())

def test_after():
    pass
"""


def test_a_test_that_hangs_is_ended_and_its_threads_told(tmp_path: Path) -> None:
    (tmp_path / "test_hanging.py").write_text(HANGING)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "pytest_timeout", "-q", "--timeout=1"],
        cwd=tmp_path,
        env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert "1 failed, 1 passed" in ended.stdout
    assert "Timeout" in ended.stdout
    assert "the-worker" in ended.stdout + ended.stderr
