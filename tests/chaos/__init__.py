"""Proof by breaking: real workers, real traffic, faults by a seed, and a model that says what must be left behind."""

from __future__ import annotations
