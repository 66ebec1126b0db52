"""Fuzzes one target with atheris: `python -m tests.fuzz.engine TARGET FINDINGS [OPTION of libFuzzer …]`.

A finding is written to a file, and the search goes on. An input that takes too long or too much memory ends the
process, and libFuzzer writes it to a file.
"""

from __future__ import annotations

import hashlib
import sys
import traceback
from pathlib import Path

import atheris


def main() -> None:
    """Fuzz until libFuzzer ends the process."""
    program, name, folder, *options = sys.argv
    with atheris.instrument_imports(include=["graphnode"]):
        from tests.fuzz.targets import TARGETS
    from tests.fuzz.mutations import mutated

    target, findings = TARGETS[name], Path(folder)

    def once(data: bytes) -> None:
        try:
            target(data)
        except Exception as error:
            _write_finding(error, data, findings)

    def mutator(data: bytes, most_bytes: int, seed: int) -> bytes:
        return mutated(bytes(data), most_bytes, seed, atheris.Mutate)

    atheris.Setup([program, *options], once, custom_mutator=mutator)
    atheris.Fuzz()


def _write_finding(error: Exception, data: bytes, findings: Path) -> None:
    """Write the input and the stack of a finding. Only the smallest input of each stack is kept."""
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    mark = hashlib.sha256(repr((type(error).__name__, places)).encode()).hexdigest()[:12]
    path = findings / mark
    if not path.exists() or path.stat().st_size > len(data):
        path.write_bytes(data)
        path.with_suffix(".txt").write_text(
            "".join(traceback.format_exception(error))[-4000:], errors="backslashreplace"
        )


if __name__ == "__main__":
    main()
