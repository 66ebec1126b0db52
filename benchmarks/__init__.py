"""Benchmarks: each is a command that prints its figures, `python -m benchmarks.NAME [--json]`."""

from __future__ import annotations
