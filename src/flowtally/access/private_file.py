"""Files that not everybody may read or change: refused where everybody may."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from flowtally.errors import SettingsError

_FOR_OTHERS = stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO
"""A group may read: services are often given their secrets so."""


def read_private(path: Path, what: str, bytes_max: int) -> bytes:
    """The file's content. Raises `SettingsError` where it cannot be read, or where its mode lets
    others read it, or anybody but its owner change it."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise SettingsError(f"{what} {path} is not a file")
            if found.st_mode & _FOR_OTHERS:
                raise SettingsError(
                    f"{what} {path} has the mode {stat.S_IMODE(found.st_mode):04o}, which lets"
                    f" others read or change it; chmod 600 {path}"
                )
            content = file.read(bytes_max + 1)
    except OSError as error:
        raise SettingsError(f"{what} {path} cannot be read: {error.strerror}") from error
    if len(content) > bytes_max:
        raise SettingsError(f"{what} {path} has more than {bytes_max} bytes")
    return content
