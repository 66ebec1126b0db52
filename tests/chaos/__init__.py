"""Chaos tests: real workers, drawn traffic and faults, and a model of the contract that predicts every table."""

from __future__ import annotations
