"""`flowtally version`."""

from __future__ import annotations

import platform

from flowtally import __version__
from flowtally.wire import kernel


def command() -> None:
    """Print the version."""
    native = kernel.version()
    decoder = "python" if native is None else f"native {native}"
    print(f"flowtally {__version__} (decoder: {decoder}; Python {platform.python_version()})")
