"""How Flowtally's figures grow: with flows, batches, connections, hours and time.

`run.py` is `make bench-scaling`; `curve.py` says what a curve is, `curves.py` lists them all, and
the other modules measure their points.
"""
