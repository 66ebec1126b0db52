"""Mutation tests: each breaks one promise of the worker in a copy of the repository, and a check must fail."""
