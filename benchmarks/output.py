"""The options that all benchmarks have, and how they print progress and figures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from typing import Any


def option_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of `python -m benchmarks.NAME`, with the option `--json`."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("--json", action="store_true", help="print the figures as one line of JSON")
    return parser


def tell(line: str) -> None:
    """Print a line of progress to standard error."""
    sys.stderr.write(f"{line}\n")


def report(figures: Any, *, as_json: bool, lines: Iterable[str] | None = None) -> None:
    """Print figures: as one line of JSON, or as these lines; without lines, one figure a line."""
    if as_json:
        lines = [json.dumps(figures)]
    elif lines is None:
        lines = [f"{name:<40}{figure}" for name, figure in figures.items()]
    sys.stdout.writelines(f"{line}\n" for line in lines)
