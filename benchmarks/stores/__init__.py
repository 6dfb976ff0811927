"""What each store gives and costs: `run.py` is `make bench-stores`, `known.py` lists the stores."""
