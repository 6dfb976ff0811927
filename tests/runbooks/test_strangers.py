"""A token that somebody has who should not, and tokens that nobody can use."""

from __future__ import annotations

from tests.runbooks.incident import Incident


def test_credentials_unusable(incident: Incident) -> None:
    """Somebody has put the file of the tokens there anew, for everybody to read."""
    incident.token = incident.add_token("everything", "read", "write", "admin")
    incident.environment |= {"FLOWTALLY_TOKEN": incident.token}
    incident.service.set(access_log=True)
    incident.start_with_tokens()
    incident.post()
    (incident.home / "tokens.json").chmod(0o644)
    incident.follow()
    incident.post()
    incident.start_without_tokens()


def test_token_leaked(incident: Incident) -> None:
    """Agents use it, and so does a stranger, who also guesses others."""
    leaked = incident.add_token("agents", "write")
    everything = incident.add_token("operator", "read", "write", "admin")
    incident.environment |= {"LEAKED": leaked, "TOKEN": everything}
    incident.service.set(access_log=True)
    incident.start_with_tokens()
    incident.token = leaked
    incident.post()
    incident.token = "guessed"
    assert incident.deliver(incident.sent[0]) == 401
    incident.follow()
    incident.start_without_tokens()
