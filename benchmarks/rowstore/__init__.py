"""The service everyone writes first, to measure beside."""
