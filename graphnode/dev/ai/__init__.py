"""A stand-in for the AI server: real input in, a small genuine knowledge graph out. Not used in production."""

from __future__ import annotations
