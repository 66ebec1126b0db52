"""`python -m tests.fuzz [TARGET …] [--minutes 10] [--seed N]`: fuzz targets, and print the findings."""

from __future__ import annotations

import argparse
import importlib.util
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.corpus import CORPUS, inputs, keep, seeds
from tests.fuzz.targets import TARGETS

#: The module that fuzzes one target in its own process.
ENGINE = "tests.fuzz.engine"

#: The most seconds of an input, and the most megabytes of the process.
LONGEST_S = 20
MOST_MB = 2048

#: The longest input, in bytes.
LONGEST_INPUT = 1 << 15

#: Seconds between two lines of progress.
TELL_EACH_S = 30

#: How often a target is restarted after an input ended its process.
MOST_RESTARTS = 5

#: A line of libFuzzer's progress. https://llvm.org/docs/LibFuzzer.html#output
PROGRESS = re.compile(r"#(?P<runs>\d+)\s.* cov: (?P<edges>\d+) .* exec/s: (?P<rate>\d+) rss: (?P<rss>\d+)")


class Run(NamedTuple):
    """The result of a target: inputs tried, edges reached in graphnode's code, paths of the findings."""

    target: str
    runs: int
    edges: int
    seconds: float
    findings: list[Path]


def main() -> None:
    """Fuzz, and print the findings; exit code 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"default: all of {', '.join(TARGETS)}")
    parser.add_argument("--minutes", type=float, default=10, help="for each target (default: 10)")
    parser.add_argument("--seed", type=int, help="of libFuzzer (default: random)")
    parser.add_argument("--folder", type=Path, default=Path(".fuzz"), help="for findings and inputs (default: .fuzz)")
    parser.add_argument("--keep", action="store_true", help="add inputs that reach new code to tests/fuzz/corpus")
    asked = parser.parse_args()
    if unknown := set(asked.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed: pip install -e '.[fuzz]' (Linux, and macOS with LLVM's clang)")
    seed = asked.seed or random.SystemRandom().randrange(1, 2**31)
    _tell(f"seed {seed}")
    done = []
    for target in asked.targets or TARGETS:
        done.append(fuzz(target, asked.folder, seconds=asked.minutes * 60, seed=seed))
        if asked.keep:
            found = inputs([asked.folder / "inputs" / target, CORPUS / target])
            _tell(f"{target}: {keep(target, found)} inputs kept")
    _tell(f"\n{'target':<16}{'inputs':>12}{'a second':>10}{'edges':>8}{'findings':>10}")
    for run in done:
        rate = run.runs / run.seconds
        _tell(f"{run.target:<16}{run.runs:>12,}{rate:>10,.0f}{run.edges:>8,}{len(run.findings):>10}")
    for path in (path for run in done for path in run.findings):
        _tell(f"finding: {path}")
    sys.exit(any(run.findings for run in done))


def fuzz(target: str, folder: Path, *, seconds: float, seed: int) -> Run:
    """Fuzz one target for this many seconds."""
    found, findings = folder / "inputs" / target, folder / "findings" / target
    for each in (found, findings):
        each.mkdir(parents=True, exist_ok=True)
    for index, data in enumerate(seeds(target)):
        (found / f"seed-{index}").write_bytes(data)
    begin = time.monotonic()
    runs = edges = 0
    for restart in range(MOST_RESTARTS + 1):
        left = int(seconds - (time.monotonic() - begin))
        if left < 1:
            break
        ended = _engine(target, found, findings, seconds=left, seed=seed + restart)
        runs, edges = runs + ended.runs, max(edges, ended.edges)
    elapsed = time.monotonic() - begin
    return Run(target, runs, edges, elapsed, sorted(path for path in findings.glob("*") if path.suffix != ".txt"))


class _Ended(NamedTuple):
    runs: int
    edges: int


def _engine(target: str, found: Path, findings: Path, *, seconds: int, seed: int) -> _Ended:
    """Run the engine, and print its progress every TELL_EACH_S seconds."""
    options = [
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        f"-timeout={LONGEST_S}",
        f"-report_slow_units={LONGEST_S}",
        f"-rss_limit_mb={MOST_MB}",
        f"-max_len={LONGEST_INPUT}",
        f"-artifact_prefix={findings}/",
        str(found),
        str(CORPUS / target),
    ]
    (CORPUS / target).mkdir(exist_ok=True)
    command = [sys.executable, "-m", ENGINE, target, str(findings), *options]
    runs, edges, told = 0, 0, time.monotonic()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stderr is not None
        tail: list[str] = []
        for line in process.stderr:
            tail = [*tail[-20:], line]
            if progress := PROGRESS.search(line):
                runs, edges = int(progress["runs"]), int(progress["edges"])
                if time.monotonic() - told > TELL_EACH_S:
                    told = time.monotonic()
                    count = sum(1 for path in findings.glob("*") if path.suffix != ".txt")
                    _tell(
                        f"{target}: {runs:,} inputs, {progress['rate']} a second, {edges} edges, "
                        f"{progress['rss']} MB, {count} findings"
                    )
    if process.returncode:
        _tell(f"{target}: the process ended with exit code {process.returncode}\n{''.join(tail)}")
    return _Ended(runs, edges)


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
