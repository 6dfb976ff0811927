"""Measurements: scripts, never timed tests. `make bench` runs them; `results/` keeps what they say."""
