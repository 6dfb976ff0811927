"""Flowtally sums the bytes that network flows carried, exactly once, and serves them by hour."""

__version__ = "0.1.0"
