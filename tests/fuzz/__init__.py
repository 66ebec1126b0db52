"""Everything that decodes what came from outside, fed with what nobody would send (docs/fuzzing.md).

A target is a function that takes bytes and raises on a finding, and on nothing else. `python -m tests.fuzz` feeds them from a
coverage-guided fuzzer; `make test` replays `tests/fuzz/corpus` through them.
"""
