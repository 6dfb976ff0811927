"""The native kernel beside its pure-Python twin."""
