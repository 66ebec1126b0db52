"""Fuzzing of everything that decodes data from outside (docs/fuzzing.md).

A target is a function that takes bytes and raises only on a finding. `python -m tests.fuzz` feeds the targets from a
coverage-guided fuzzer; `make test` replays `tests/fuzz/corpus`.
"""
