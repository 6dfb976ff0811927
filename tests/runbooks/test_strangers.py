"""A token that somebody has who should not."""

from __future__ import annotations

from tests.runbooks.incident import Incident


def test_token_leaked(incident: Incident) -> None:
    """Agents use it, and so does a stranger, who also guesses others."""
    service = incident.service
    leaked = incident.add_token("agents", "write")
    everything = incident.add_token("operator", "read", "write", "admin")
    incident.environment |= {"LEAKED": leaked, "TOKEN": everything}
    service.set(access_log=True)
    incident.start_with_tokens()
    incident.token = leaked
    incident.post()
    incident.token = "guessed"
    assert incident.deliver(incident.sent[0]) == 401
    incident.follow()
    incident.start_without_tokens()
