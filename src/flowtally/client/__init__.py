"""What sends batches and reads sums over HTTP. Needs httpx2 and msgspec, and none of the server."""
