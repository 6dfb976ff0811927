"""Bytes to tallies and sums to bytes: the only code that knows field names on the wire. No I/O."""
