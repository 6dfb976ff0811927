"""The systems that people would choose instead, each fed the way its own users feed it.

A module for each family. What a peer is stands in `peer.py`; `run.py` is `make bench-peers`.
"""
