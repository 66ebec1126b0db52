"""What the API server imports to make requests of the AI server. docs/requests.md has examples."""

from __future__ import annotations

from graphnode.requests.client import Request, Requested, Requests, open_requests

__all__ = ["Request", "Requested", "Requests", "open_requests"]
