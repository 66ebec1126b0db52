"""Mutations on purpose: what the worker promises is broken in a copy, a promise at a time, and a check must see it."""
