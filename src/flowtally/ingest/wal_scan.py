"""Tells a torn tail of SQLite's write-ahead log from a damaged middle.

After a crash SQLite reads the log up to the first frame whose checksum fails and forgets the rest.
That is right for a torn tail, which nobody was promised, and wrong for a flipped bit in the middle:
the commits behind it were synced and acknowledged, and would vanish without a word. Every commit is
synced before the next one is begun, so a whole commit that is followed by further frames was
durable; if SQLite did not accept it, the file is damaged. Damage inside the very last commit looks
like a torn tail and cannot be told from it here.

All of this happens before the database is opened for writing: a writer that closes would fold the
accepted part into the database and delete the log, and with it the evidence.

Formats: https://www.sqlite.org/fileformat2.html#walformat, https://www.sqlite.org/walformat.html
"""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_INDEX_FRAMES = struct.Struct("=16xI")
"""In the wal-index header: the last frame that SQLite accepts, in the machine's byte order."""
_MAGIC = (0x377F0682, 0x377F0683)


def log_of(database: Path) -> Path:
    """The write-ahead log that belongs to a database."""
    return database.with_name(database.name + "-wal")


def damage_in_log(database: Path) -> str | None:
    """What is wrong with a database's log, in words; None if nothing. Changes neither file.

    Raises `sqlite3.Error` where SQLite cannot read the database at all.
    """
    wal = log_of(database)
    if not wal.exists() or wal.stat().st_size <= _HEADER.size:
        return None
    if not database.exists() or database.stat().st_size == 0:
        return f"{database.name}, which it belongs to, is missing"
    return lost_commits(wal, _frames_accepted(database))


def _frames_accepted(database: Path) -> int:
    """How many frames SQLite accepts, read from the index that it makes of the log."""
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM sqlite_schema").fetchall()
        index = database.with_name(database.name + "-shm").read_bytes()[: _INDEX_FRAMES.size]
    frames: int = _INDEX_FRAMES.unpack(index)[0]
    return frames


def lost_commits(wal: Path, frames_accepted: int) -> str | None:
    """What is wrong with the log, given how many of its frames SQLite accepted; None if nothing.

    Reads the frames' headers only: 24 bytes in each 4 KiB.
    """
    with wal.open("rb") as file:
        header = file.read(_HEADER.size)
        magic, _, page_bytes, _, salt_1, salt_2, *checksum = _HEADER.unpack(header)
        if magic not in _MAGIC or _checksum(header[:-8], magic) != tuple(checksum):
            return "its header is damaged"
        frame_bytes = _FRAME.size + page_bytes
        frames = (wal.stat().st_size - _HEADER.size) // frame_bytes
        commit_at: int | None = None
        for index in range(frames_accepted, frames):
            file.seek(_HEADER.size + index * frame_bytes)
            _, pages_after_commit, frame_salt_1, frame_salt_2, _, _ = _FRAME.unpack(
                file.read(_FRAME.size)
            )
            if (frame_salt_1, frame_salt_2) != (salt_1, salt_2):
                continue
            if commit_at is not None:
                return (
                    f"frame {frames_accepted + 1} does not match its checksum, "
                    f"but a later commit ends at frame {commit_at + 1}"
                )
            if pages_after_commit:
                commit_at = index
    return None


def _checksum(data: bytes, magic: int) -> tuple[int, int]:
    """SQLite's own, over whole pairs of words. It syncs the header before the first frame,
    so where there are frames, no power cut can have torn it."""
    words = struct.unpack(f"{'>' if magic & 1 else '<'}{len(data) // 4}I", data)
    first = second = 0
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second
