"""Readers of other systems' files: each gives records, and says what it read and skipped."""
