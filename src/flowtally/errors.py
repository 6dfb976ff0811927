"""Every error that a caller of Flowtally's own parts handles differently.

    FlowtallyError
    ├── InvalidInput            the sender's mistake; sending it again cannot help
    │   ├── Malformed           what came cannot be read as a request
    │   │   ├── TargetTooLong   ... its target is longer than all of a head may be
    │   │   ├── HeadTooLarge    ... its head has too many bytes or lines
    │   │   └── UnknownVersion  ... it is of another version of HTTP than those spoken here
    │   ├── InvalidRecords      ... with every bad record named
    │   ├── BodyCutOff          less of the body came than was announced
    │   ├── TooLarge            a limit of `limits.py` was passed
    │   ├── UnsupportedMedia    a content type or coding that is not read here
    │   ├── NotAcceptable       a format that is not written here
    │   └── KeyReused           the same Idempotency-Key came with another body
    ├── Unavailable             nothing was changed; send it again, with the same key, later
    │   ├── Overloaded          too much is in flight
    │   ├── NotAccepting        the promise cannot be kept now (disk full, failed sync, stopping)
    │   │   └── CommitFailed    ... because the commit that the batch was part of failed
    │   ├── SlowHead            the head of a request did not come in time
    │   ├── SlowBody            the body did not come in time
    │   ├── RateLimited         one client asked more often than it may
    │   └── DeadlinePassed      the request took too long
    ├── AccessDenied            whoever asks may not; nothing was read of the body
    │   ├── NotAuthenticated    no valid token came
    │   └── NotPermitted        one came that may not do this
    ├── DataFolderError         the data folder cannot be used as it is
    │   ├── FolderInUse         another process has it
    │   └── DamagedData         a file of it is damaged, missing or does not belong to it
    ├── NotSupported            the store does not do that; what does is named
    ├── BackupError             a backup cannot be taken or restored; nothing is left half done
    └── SettingsError           a setting that cannot be used

Which HTTP status each becomes is decided in `api/problems.py` alone. Internals raise built-ins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class FlowtallyError(Exception):
    """The root. `str(error)` is a sentence for a person, without a trailing stop."""


class InvalidInput(FlowtallyError):
    """The request is not valid; it changed nothing, and repeating it cannot help."""


class Malformed(InvalidInput):
    """What came cannot be read as a request, or two readers could understand it differently."""


class TargetTooLong(Malformed):
    """The target of a request is longer than all of its head may be."""


class HeadTooLarge(Malformed):
    """The head of a request has too many bytes or lines."""


class UnknownVersion(Malformed):
    """The request is of another version of HTTP than those that are spoken here."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault in a body: `pointer` is a JSON Pointer (RFC 6901) such as `/3/bytes_rx`."""

    pointer: str
    detail: str


class InvalidRecords(InvalidInput):
    """At least one record is bad, so the whole batch is refused.

    `errors` names the first of them, at most `limits.ERRORS_LISTED_MAX`; `errors_total` counts all.
    """

    def __init__(self, detail: str, errors: Sequence[FieldError], errors_total: int) -> None:
        super().__init__(detail)
        self.errors = tuple(errors)
        self.errors_total = errors_total


class BodyCutOff(InvalidInput):
    """The body ended before its announced end, or the sender went away. Nothing of it is counted,
    and nobody is known to have meant it: it is no refused batch."""


class TooLarge(InvalidInput):
    """The body passes a limit: bytes on the wire, bytes decoded, or records."""


class UnsupportedMedia(InvalidInput):
    """The body's Content-Type or Content-Encoding is not one that is read here."""


class NotAcceptable(InvalidInput):
    """None of the formats that the client accepts is written here."""


class KeyReused(InvalidInput):
    """The batch_id was used before with another body. The first one counts; this one does not."""


class Unavailable(FlowtallyError):
    """Nothing was changed. The same request may succeed after `retry_after_s` seconds."""

    def __init__(self, detail: str, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class Overloaded(Unavailable):
    """A bound of `limits.py` is reached: slow down and retry."""


class NotAccepting(Unavailable):
    """The store cannot keep its promise now: it acknowledges nothing until that has changed."""


class CommitFailed(NotAccepting):
    """The commit that the batch was part of failed; the log has the cause under its number, which
    is counted from the service's start."""

    def __init__(self, detail: str, commit: int, retry_after_s: int) -> None:
        super().__init__(detail, retry_after_s)
        self.commit = commit


class SlowHead(Unavailable):
    """The head of a request was begun, and did not come whole in time."""


class SlowBody(Unavailable):
    """The body did not come whole within the deadline; nothing of it was counted."""


class RateLimited(Unavailable):
    """One client asked more often than it may. Nothing was read of the body."""


class DeadlinePassed(Unavailable):
    """The request was not done in time. Whether it was counted is unknown: repeat it by its key."""


class AccessDenied(FlowtallyError):
    """Whoever asks may not have it. Decided before any of the body is read.

    `reason` is a word for it, of few; `challenge` says what would be taken (RFC 6750, section 3).
    """

    def __init__(self, detail: str, reason: str, challenge: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.challenge = challenge


class NotAuthenticated(AccessDenied):
    """No token came, or none that is valid."""


class NotPermitted(AccessDenied):
    """The token is valid, and not for this."""


class DataFolderError(FlowtallyError):
    """The data folder cannot be used as it is; nothing in it was changed."""


class FolderInUse(DataFolderError):
    """Another process has the data folder open; `url` is where it serves, if it said so."""

    def __init__(self, detail: str, url: str | None = None) -> None:
        super().__init__(detail)
        self.url = url


class DamagedData(DataFolderError):
    """A file is damaged, missing, or not of this folder. It is named and left as it is."""


class NotSupported(FlowtallyError):
    """The store that runs does not do this. The sentence names what does."""


class BackupError(FlowtallyError):
    """A backup is incomplete, damaged or of a newer release, or there is no place for it."""


class SettingsError(FlowtallyError):
    """A setting is unknown or its value cannot be used."""
