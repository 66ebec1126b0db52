"""Measurements, each a command that prints its figure: `python -m benchmarks.NAME [--json]`."""

from __future__ import annotations
