"""Measurements: scripts, never timed tests. `make bench` runs them, `results/` keeps figures."""
