"""What the API server imports to ask the AI server for work. docs/requests.md has the examples."""

from __future__ import annotations

from graphnode.requests.client import Request, Requested, Requests, open_requests

__all__ = ["Request", "Requested", "Requests", "open_requests"]
