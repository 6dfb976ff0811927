"""What Flowtally does when it is asked for more than it can carry, and when it runs for long.

`run.py` is `make bench-overload`; `loads.py` says who posts how, `flooding.py` measures each of
them, `soaking.py` the run that lasts; `client.py`, `flood.py` and `soak.py` are what posts.
"""
