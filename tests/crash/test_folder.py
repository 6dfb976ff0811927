"""The data folder belongs to one process, and its files to one user."""

from __future__ import annotations

import stat
from pathlib import Path

from tests.crash.accounts import assert_sound
from tests.crash.expected import Expected
from tests.crash.failing import writing
from tests.crash.service import READY_S_MAX, Service, running


def test_a_second_process_is_refused_by_name(service: Service, tmp_path: Path, seed: int) -> None:
    """It ends at once and says who has the folder; the first one does not notice."""
    service.start_ready()
    expected = Expected()
    with (
        writing(service, seed, expected) as writers,
        running(Service(tmp_path / "second", service.data)) as second,
    ):
        second.start()
        assert second.wait_ended() not in (0, -9)
        output = second.output()
        assert f"process {service.pid}" in output, output
        assert str(service.data) in output
        assert "Traceback" not in output
        writers.stop(READY_S_MAX)
    assert service.stop() == 0, service.output()
    assert_sound(service.data, expected)


def test_files_are_for_their_owner_only(service: Service, seed: int) -> None:
    """While it runs, after a kill, and after a stop."""
    service.start_ready()
    with writing(service, seed, Expected()) as writers:
        writers.stop(READY_S_MAX)
    _assert_private(service.data)
    service.kill()
    _assert_private(service.data)
    service.start_ready()
    assert service.stop() == 0, service.output()
    _assert_private(service.data)


def _assert_private(data: Path) -> None:
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in data.iterdir()}
    assert set(modes.values()) == {"0o600"}, modes
