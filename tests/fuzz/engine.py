"""One target in a process of its own, fed by atheris: `python -m tests.fuzz.engine TARGET FINDINGS [libFuzzer's options]`.

A finding is written down, and the search goes on. What takes too long or too much memory ends the process: libFuzzer
writes down what did.
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
            _write_down(error, data, findings)

    def mutator(data: bytes, most_bytes: int, seed: int) -> bytes:
        return mutated(bytes(data), most_bytes, seed, atheris.Mutate)

    atheris.Setup([program, *options], once, custom_mutator=mutator)
    atheris.Fuzz()


def _write_down(error: Exception, data: bytes, findings: Path) -> None:
    """Keep the input of a finding, and where it was raised: of those that were raised at one place, the smallest."""
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
