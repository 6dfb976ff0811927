"""A token that somebody has who should not."""

from __future__ import annotations

import subprocess
import sys

from tests.crash.service import wait_for
from tests.runbooks.incident import Incident


def test_token_leaked(incident: Incident) -> None:
    """Agents use it, and so does a stranger, who also guesses others."""
    service = incident.service
    file = incident.home / "tokens.json"

    def add(name: str, *may: str) -> str:
        scopes = [word for scope in may for word in ("--may", scope)]
        command = [sys.executable, "-m", "flowtally.cli.main", "token", "add", name, *scopes]
        done = subprocess.run(
            [*command, "--tokens", str(file)], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    leaked = add("agents", "write")
    everything = add("operator", "read", "write", "admin")
    incident.environment |= {"LEAKED": leaked, "TOKEN": everything}
    service.set(tokens=str(file), access_log=True)
    service.start()
    wait_for(lambda: service.answers("/livez", 200), 60, "it does not serve", service.output)
    incident.token = leaked
    incident.post()
    incident.token = "guessed"
    assert incident.deliver(incident.sent[0]) == 401
    incident.follow()
    # Whoever looks whether all is there has no token.
    service.stop()
    service.set(tokens=None)
    service.start()
    incident.token = ""
