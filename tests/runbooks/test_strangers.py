"""A token that somebody has who should not, and a file of tokens that cannot be used."""

from __future__ import annotations

import subprocess
import sys

from tests.crash.service import wait_for
from tests.runbooks.incident import Incident

FILE = "tokens.json"


def token(incident: Incident, name: str, *may: str) -> str:
    """A new one in the service's file."""
    scopes = [word for scope in may for word in ("--may", scope)]
    command = [sys.executable, "-m", "flowtally.cli.main", "token", "add", name, *scopes]
    done = subprocess.run(
        [*command, "--tokens", str(incident.home / FILE)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def start(incident: Incident) -> None:
    """With the tokens that there are."""
    service = incident.service
    service.set(tokens=str(incident.home / FILE), access_log=True)
    service.start()
    wait_for(lambda: service.answers("/livez", 200), 60, "it does not serve", service.output)


def start_without_tokens(incident: Incident) -> None:
    """Whoever looks whether all is there has none."""
    incident.service.stop()
    incident.service.set(tokens=None)
    incident.service.start()
    incident.token = ""


def test_credentials_unusable(incident: Incident) -> None:
    """Somebody has put the file of the tokens there anew, for everybody to read."""
    incident.token = token(incident, "everything", "read", "write", "admin")
    incident.environment |= {"FLOWTALLY_TOKEN": incident.token}
    start(incident)
    incident.post()
    (incident.home / FILE).chmod(0o644)
    incident.follow()
    incident.post()
    start_without_tokens(incident)


def test_token_leaked(incident: Incident) -> None:
    """Agents use it, and so does a stranger, who also guesses others."""
    leaked = token(incident, "agents", "write")
    everything = token(incident, "operator", "read", "write", "admin")
    incident.environment |= {"LEAKED": leaked, "TOKEN": everything}
    start(incident)
    incident.token = leaked
    incident.post()
    incident.token = "guessed"
    assert incident.deliver(incident.sent[0]) == 401
    incident.follow()
    start_without_tokens(incident)
