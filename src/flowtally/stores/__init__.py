"""What keeps sums and answers reads: one module or package for each store, all by one contract."""
