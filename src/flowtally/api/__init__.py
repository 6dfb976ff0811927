"""HTTP: knows the two ports and nothing of what stands behind them."""
