"""Every bound of the service, in one place, each with the reason for its size.

A queue, body, batch, cache, retry or loop that is not bounded here is a defect. What an operator
may change is a field of `config.Settings` whose default stands here.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

# The contract of POST /v1/flows.
BODY_BYTES_MAX = 16 * MIB
"""On the wire, before decompression."""
DECODED_BYTES_MAX = 32 * MIB
"""After decompression: a compressed body of 16 MiB could otherwise hold 16 GiB of zeros."""
RECORDS_MAX = 100_000
RECORD_BYTES_VALUE_MAX = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly (RFC 8259, section 6)."""
HOUR_MAX = 2**31 - 1
NAME_BYTES_MAX = 256
"""UTF-8 bytes of src_app, dest_app and vpc_id, each."""
UNKNOWN_DEPTH_MAX = 16
"""How deep an unknown field may nest; it is read only to be ignored."""
CLOSE_LOOK_MARKS_PER_RECORD_MAX = 16
"""Commas, opening brackets and backslashes, per permitted record, in a body that is read a second
time to name its faults or to look into its unknown fields: each can cost a Python object. A plain
record has 7."""
CODING_FRAMES_MAX = 1_024
"""gzip members or zstd frames in one body: each costs a decoder, however little it holds."""
ARROW_MESSAGES_MAX = 1_024
"""Messages (schema, dictionaries, batches) in one Arrow stream, for the same reason."""
BATCH_ID_LENGTH_MAX = 128
ERRORS_LISTED_MAX = 100
"""Bad records named in one answer; the rest are counted."""

# Connections.
CONNECTIONS_MAX = 1_024
"""Open at once. Where one more comes, those that have been quiet make room; where all are at work,
it waits in the kernel's queue until one of them has left with its answer."""
ACCEPTED_AT_ONCE_MAX = 64
"""In one turn of the event loop, which takes a quarter of a second where all are at work."""
BACKLOG_MAX = 4_096
"""Clients in the kernel's queue, where it allows so many; who does not fit tries again after a
second."""
HEAD_BYTES_MAX = 64 * KIB
"""A request's head; and what frames a chunked body without being a byte of it."""
HEAD_LINES_MAX = 100
HEAD_S = 30.0
"""From a connection to its first head."""
HANDSHAKE_S = 10.0
"""From a connection to the end of its TLS handshake, which takes two round trips."""
UNDISTURBED_S = 1.0
"""So long nobody makes room for others who is in a handshake, was answered, or is told goodbye: a
client at work is never quiet for so long, and may just have sent its next request. And so long a
stop waits for handshakes."""
IDLE_S = 75.0
"""From an answer to the next head: longer than the minute between two posts of an agent."""
BODY_UNREAD_BYTES_MAX = 512 * KIB
"""What is taken of a body before it is read."""
SEND_S = 30.0
"""How long a client may take to read 256 KiB of an answer."""

# Requests.
REQUEST_DEADLINE_S = 30.0
DECODE_INLINE_BYTES_MAX = 32 * KIB
"""Smaller bodies are decoded on the event loop: a hop to a thread costs more than the work."""
DECODE_CODED_INLINE_BYTES_MAX = 4 * KIB
"""The same for compressed bodies, which may be much larger than they look; those that turn out to
be larger than the above go to a thread after all."""
ENCODE_INLINE_FLOWS_MAX = 500
"""The same for answers."""
DISCARD_BYTES_MAX = 32 * MIB
DISCARD_S = 5.0
"""What is read away of a refused body, so that its sender gets to see the answer."""
DISCARD_AFTER_S = 1.0
"""A large one is read away only after so long, as `Retry-After` says: under overload it would cost
what storing it costs."""
DRAIN_S = 8.0
"""How long a stop waits for what is in flight; the process is gone within 10 s."""

# Access.
TOKENS_MAX = 10_000
TOKENS_REVOKED_MAX = 1_000
"""Revoked tokens whose names are remembered, for whoever still uses one to be found."""
TOKENS_FILE_BYTES_MAX = 16 * MIB
TLS_FILE_BYTES_MAX = 1 * MIB
FILES_LOOK_S = 1.0
"""How often the files of tokens and certificates are looked at: a revocation holds in two."""
CERTIFICATE_LEFT_S_MIN = 14 * 86_400
"""A certificate that ends sooner is told of: the usual renewal is 30 days before the end."""
RATE_CLIENTS_MAX = 10_000
"""Clients without a token whose requests are counted one by one; what is more shares one count."""
RATE_SWEEP_S = 1.0
"""How often, at most, those that have their whole burst again are looked for and forgotten."""

# Admission and the committer.
IN_FLIGHT_BYTES_MAX = 256 * MIB
"""Bytes of bodies admitted and not yet answered."""
QUEUE_BATCHES_MAX = 10_000
QUEUE_ROWS_MAX = 1_000_000
"""Flows that wait to be committed. A body weighs more once it is summed, and a compressed one very
much more, so the bytes in flight alone bound no memory."""
GROUP_BATCHES_MAX = 1_000
GROUP_ROWS_MAX = 200_000
"""Flows in one commit: bounds how long one commit, and so every waiting answer, can take."""

# Journal.
PENDING_BYTES_MAX = 1 * GIB
"""Tallies journalled and not yet in the store; beyond it, acknowledgement stops until it drains."""
WAL_CHECKPOINT_BYTES = 16 * MIB
"""From this size the journal's write-ahead log is copied into the database in the background, and
emptied: a long log is long to read at a start, and in one piece long to copy."""
DISK_FREE_BYTES_MIN = 64 * MIB
"""Below this nothing is acknowledged: a commit that could fill the disk is not begun."""
DISK_FREE_BYTES_WARNING = 1 * GIB
"""Below this `/health` warns, while there is time to make room."""

# Backup.
BACKUP_READ_BYTES = 1 * MIB
"""What is read, hashed and sent at once."""
BACKUP_PAGES = 512
"""Pages of SQLite that are copied at once; then others have the processor, and an end is looked
for."""
MANIFEST_BYTES_MAX = 16 * MIB
"""A line for each arrival hour that the ledger knows: 100 years of them."""

# Applier, compaction, retention.
APPLY_BYTES_MAX = 64 * MIB
"""Journal bytes taken into one DuckDB transaction."""
APPLY_INTERVAL_S = 1.0
"""How long pending tallies may wait when nobody reads: larger transactions cost less."""
CLOSE_APPLY_S = 3.0
"""How long a stop goes on applying what is pending; the process is gone within 10 s."""
AGGREGATE_BYTES_MAX = 16 * MIB
"""Journal bytes that an aggregation reads at once; what they are merged into is bounded by rows."""
READ_BARRIER_S = 0.25
"""How long a read waits for the applier before it sums the pending tallies itself."""
HOUR_REVISIONS_MAX = 100_000
"""Hours whose revision, and what was counted of them, is kept in memory; others are asked of the
store."""
READ_CACHE_BYTES_MAX = 64 * MIB
"""Encoded answers kept by (hour, format, revision)."""

PARTIAL_INTERVAL_MS = 5 * 60_000
"""An hour that changed so recently is marked partial: more of it is probably on its way."""

# What the service watches of itself.
BEAT_AGE_S_MAX = 8.0
"""A part that is silent for longer is stuck. All of them beat each second; it shows within ten."""
EVENT_LOOP_LAG_S_MAX = 2.0
"""Who waits so long for the event loop notices; `/health` warns."""
COMMIT_S_MAX = 2.0
"""The same for a commit: whoever posts waits for the one under way, and then for the next."""
COMMIT_TOLD_S = 30
"""How long `/health` tells of the slowest commit."""
LEDGER_CHECK_FIRST_S = 5.0
LEDGER_CHECK_INTERVAL_S = 60.0
LEDGER_REST = 200
"""How many times as long as a count took no other is made."""
LEDGER_CHECK_S_MAX = 120.0
"""A count that takes longer is given up."""
LEDGER_PENDING_BYTES_MAX = 64 * MIB
LEDGER_MEMORY_FLOWS_MAX = 100_000
"""What more would have to be counted at once is not counted in the background."""

# Memory store.
MEMORY_FLOWS_MAX = 20_000_000
"""About 8 GB. Beyond it nothing is taken until what is too old has been dropped. A machine that has
less memory is given less by its settings."""
MEMORY_BATCH_IDS_MAX = 10_000_000
"""A thousand agents that post once a minute use 1.4 million in a day; this is 115 batches a second
for a day, in about 3 GB. Beyond it only repeats and batches without a key are taken."""

# SQL store.
SQL_READERS = 4
"""Snapshots at a time, each a connection; whoever comes then waits for one ..."""
SQL_READ_WAIT_S = 10.0
"""... this long, and is told to come back."""
SQL_GLANCES = 2
"""Connections beside those, for what takes a moment: no long read may be in its way."""
SQL_CONNECT_S = 5
SQL_LOCK_WAIT_S = 10
"""How long a commit waits for those of other services, or for a shell that has the file locked."""
SQL_STATEMENT_S = 10
"""How long the server may work on one statement that changes something ..."""
SQL_CHANGE_S = 15.0
"""... and how long it may answer nothing, before its connections are broken off. A sender is told
within its deadline."""
SQL_CLOSE_S = 3.0
"""The same when the service stops."""
SQL_LOG_BYTES_MAX = 256 * MIB
"""From this size of SQLite's log it is emptied even if commits have to wait for readers."""
SQL_IDLE_S = 30
"""A service that stops in the middle of a transaction keeps all others waiting for so long."""
SQL_STATEMENT_ROWS_MAX = 2_048
"""Rows in one statement of SQLite, which is prepared once for each power of two of them."""
SQL_PIECE_ROWS = 5_000
"""Rows deleted in one transaction: a commit never waits for more than these."""
SQL_READ_ROWS = 4_000
"""Rows of an answer that are Python's objects at a time."""
SQL_PREPARE_INLINE_ROWS_MAX = 1_000
"""More rows of a group are prepared in a thread: the event loop must not stand still for them."""

# Logs.
LOG_REPEATS_MAX = 5
LOG_REPEATS_INTERVAL_S = 10.0
"""How often the same warning or error is written in such an interval; what is more is counted."""
LOG_KINDS_MAX = 256
"""Different warnings and errors that are told apart for that; the oldest is forgotten."""
LOG_IDS_MAX = 10
"""batch_ids, and requests that were held back, that one line names."""
LOG_GROUP_REQUEST_IDS_MAX = 100
"""Requests that the line of a failed commit names, of up to GROUP_BATCHES_MAX; the access log has
the number of the commit for all of them."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """The bounds of one body; tests make them small."""

    body_bytes_max: int = BODY_BYTES_MAX
    decoded_bytes_max: int = DECODED_BYTES_MAX
    records_max: int = RECORDS_MAX
