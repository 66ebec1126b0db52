"""The stand-in AI server: computes a small, real knowledge graph from real input. Not used in production."""

from __future__ import annotations
