"""Files that are read anew: a change is seen, what cannot be used changes nothing and is told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from flowtally import limits
from flowtally.access.credentials import Credentials
from flowtally.access.tls import Certificate, read_certificate
from flowtally.access.tokens_file import add_token, revoke_token
from flowtally.access.watched import Watched
from flowtally.clock import ManualClock, SystemClock
from flowtally.errors import SettingsError
from flowtally.model import PartHealth
from tests.certificates import Authority
from tests.http.sockets import eventually


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "number"
    path.write_text("1")
    return path


@asynccontextmanager
async def watching(file: Path) -> AsyncIterator[Watched[int]]:
    def read() -> int:
        text = file.read_text()
        if text == "broken":
            raise SettingsError("it is broken")
        return int(text)

    watched = Watched("number", [file], read, SystemClock(), "docs/x.md")
    await watched.start()
    try:
        yield watched
    finally:
        await watched.close()
        await watched.close()


def put(file: Path, text: str) -> None:
    """As an editor does: another file in the place of this one."""
    other = file.with_suffix(".new")
    other.write_text(text)
    os.replace(other, file)


def test_a_change_is_seen_and_a_broken_file_changes_nothing(file: Path) -> None:
    async def story() -> None:
        async with watching(file) as watched:
            assert watched.value == 1 and watched.health().state == "ok"
            put(file, "2")
            await eventually(lambda: watched.value == 2)
            put(file, "broken")
            await eventually(lambda: watched.health().state == "error")
            health = watched.health()
            assert (watched.value, health.last_error) == (2, "it is broken")
            assert (health.hint, health.detail) == ("docs/x.md", "what was read last is in force")
            # What nobody thought of does not end the watching.
            put(file, "no number")
            await eventually(lambda: "ValueError" in watched.health().last_error)
            os.unlink(file)
            await eventually(lambda: "No such file" in watched.health().last_error)
            assert watched.value == 2
            put(file, "3")
            await eventually(lambda: watched.value == 3)
            await eventually(lambda: watched.health().state == "ok")
            assert watched.health().last_error == ""

    asyncio.run(story())


def test_it_beats_and_reads_at_once_where_it_is_asked_to(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with watching(file) as watched:
            before_s = watched.health().beat_s
            await eventually(lambda: watched.health().beat_s > before_s)
        monkeypatch.setattr(limits, "FILES_LOOK_S", 3_600)
        async with watching(file) as watched:
            watched.reload()
            await eventually(lambda: watched.health().facts["changes"] == 1)

    asyncio.run(story())


def test_a_start_on_what_cannot_be_used_fails(file: Path) -> None:
    async def story() -> None:
        put(file, "broken")
        with pytest.raises(SettingsError, match="it is broken"):
            async with watching(file):
                pass

    asyncio.run(story())


def test_a_service_without_files_watches_none() -> None:
    async def story() -> None:
        credentials = Credentials(None, None, None, SystemClock())
        await credentials.start()
        credentials.reload()
        assert (credentials.tokens, credentials.tls, credentials.health()) == (None, None, [])
        await credentials.close()

    asyncio.run(story())


def test_a_service_is_warned_of_no_tokens_and_of_the_end_of_its_certificate(
    tmp_path: Path,
) -> None:
    issued = Authority(tmp_path).issue("service", days=30)
    tokens = tmp_path / "tokens"
    add_token(tokens, "a", ["read"], "2026")
    clock = ManualClock(read_certificate(issued.certificate, issued.key).expires_s * 1000)

    async def story() -> None:
        credentials = Credentials(tokens, issued.certificate, issued.key, clock)
        await credentials.start()

        def health(number: int) -> Callable[[], PartHealth]:
            return lambda: credentials.health()[number]

        try:
            assert (health(0)().state, health(0)().detail) == ("ok", "1 valid tokens")
            revoke_token(tokens, "a", "2027")
            await eventually(lambda: health(0)().state == "warning")
            assert "nobody is let in" in health(0)().detail
            states = []
            for days in (15, 13, -1):
                clock.jump_ms(clock_end_ms - clock.now_ms() - days * 86_400_000)
                states.append((health(1)().state, health(1)().detail))
            assert states == [
                ("ok", "the certificate ends in 15 days"),
                ("warning", "the certificate ends in 13 days"),
                ("error", "the certificate ended 1 days ago"),
            ]
        finally:
            await credentials.close()

    clock_end_ms = clock.now_ms()
    asyncio.run(story())


def test_the_end_of_a_certificate_is_read_as_openssl_reads_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    now_s = SystemClock().now_ms() // 1000
    # Beyond 2049 the time is written in another way (RFC 5280, section 4.1.2.5).
    for days in (1, 30, 365, 20_000):
        issued = authority.issue(f"d{days}", days=days)
        found: Certificate = read_certificate(issued.certificate, issued.key)
        assert 0 <= found.expires_s - now_s - days * 86_400 < 120


def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, other = authority.issue("one"), authority.issue("other")
    with pytest.raises(SettingsError, match=r"one.pem and the key .*other-key.pem cannot be used"):
        read_certificate(one.certificate, other.key)
    with pytest.raises(SettingsError, match="gone cannot be read: No such file"):
        read_certificate(tmp_path / "gone", one.key)
    with pytest.raises(SettingsError, match=r"the TLS key .*gone cannot be read"):
        read_certificate(one.certificate, tmp_path / "gone")
    one.key.chmod(0o644)
    with pytest.raises(SettingsError, match=r"the TLS key .* has the mode 0644"):
        read_certificate(one.certificate, one.key)
    other.certificate.write_text("nothing")
    with pytest.raises(SettingsError, match="cannot be used"):
        read_certificate(other.certificate, other.key)
