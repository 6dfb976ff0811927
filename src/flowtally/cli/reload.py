"""What a SIGHUP does: the settings are read again, and each part that can takes on what is new.

A part is one line: `reload.add("tokens", tokens.reload)`. It is called at every reload, whether a
setting of it has changed or not, because a file that a setting names may have. One line of the log
says what changed, and which settings wait for the next start. What cannot be used is logged, and
leaves everything, or that part, as it was.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable

from flowtally.config import Settings, table
from flowtally.errors import FlowtallyError

logger = logging.getLogger("flowtally.serve")

Apply = Callable[[Settings], str | None]
"""Takes on new settings; returns what changed beside them, in words. Raises `FlowtallyError` or
`OSError` where it cannot, and then nothing has changed."""


class Reload:
    """See the module. Call it to reload."""

    def __init__(self, settings: Settings, load_again: Callable[[], Settings]) -> None:
        """`load_again` reads the settings anew, or raises `SettingsError`."""
        self._in_force = _public(settings)
        self._load_again = load_again
        self._parts: list[tuple[str, Apply, tuple[str, ...]]] = []

    def add(self, part: str, apply: Apply, settings: Iterable[str] = ()) -> None:
        """Has a part take on new settings: those that `settings` names need no start."""
        self._parts.append((part, apply, tuple(settings)))

    def __call__(self) -> None:
        try:
            wanted = self._load_again()
        except FlowtallyError as error:
            logger.error("not reloaded, all stays as it was", extra={"error": str(error)})
            return
        values = _public(wanted)
        changed: dict[str, str] = {}
        at_once: set[str] = set()
        for part, apply, names in self._parts:
            at_once.update(names)
            try:
                told = apply(wanted)
            except (FlowtallyError, OSError) as error:
                logger.error(
                    "a part is not reloaded, it stays as it was",
                    extra={"part": part, "error": str(error)},
                )
                continue
            if told is not None:
                changed[part] = told
            for name in names:
                if values[name] != self._in_force[name]:
                    changed[name] = f"{self._in_force[name]} -> {values[name]}"
                    self._in_force[name] = values[name]
        waiting = [
            name
            for name, value in values.items()
            if value != self._in_force[name] and name not in at_once
        ]
        # A warning, so that it is seen whatever level is set by it.
        logger.warning("reloaded", extra={"changed": changed, "wait_for_start": waiting or None})


class HangUp:
    """Answers SIGHUP: with a reload, or with a stop where it says that the terminal is gone.

    An operator and a terminal that is closed send the same signal; a service that was started by
    hand must not live on without anybody seeing it, unless by `nohup` it was told to.
    """

    def __init__(self, reload: Reload, outlives_terminal: bool) -> None:
        self.reload = reload
        self._had_terminal = not outlives_terminal and _has_terminal()

    def listen(self, stop: Callable[[], None]) -> None:
        """Answers the signal from now on, on the running event loop."""
        import asyncio
        import signal

        def on_signal() -> None:
            if self._had_terminal and not _has_terminal():
                stop()
            else:
                self.reload()

        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, on_signal)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _public(settings: Settings) -> dict[str, object]:
    return {row.name: row.public(getattr(settings, row.name)) for row in table()}
