"""`flowtally version`."""

from __future__ import annotations

import platform

from flowtally import __version__


def command() -> None:
    """Print the version."""
    print(f"flowtally {__version__} (decoder: python; Python {platform.python_version()})")
