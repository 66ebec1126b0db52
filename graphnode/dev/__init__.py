"""What a laptop needs around the worker: embedded servers, a played AI server, the demo. Not used in production."""

from __future__ import annotations
