"""One worker process, put together."""
