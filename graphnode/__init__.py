"""The worker behind GraphNode's result queue: SQS in, PostgreSQL and push notifications out."""

from __future__ import annotations

__version__ = "0.2.0"
