"""Runs commands of `graphnode` in the test's own process, which takes a tenth of the time of a new one."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest

from graphnode import cli
from graphnode.sqs.liveness import LifeSign
from graphnode.worker import health
from graphnode.worker.endpoint import Endpoint
from tests.e2e.ai_server import PATIENCE_S
from tests.serving import serving


class Terminal:
    """Runs commands.

    Parameters:
      patch: changes the process during a command.
      captured: the output of commands.
    """

    def __init__(self, patch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]) -> None:
        self.patch, self.captured = patch, captured

    def run(self, arguments: Sequence[str]) -> tuple[int, str]:
        """Run `graphnode`, and answer its question with yes. Its exit code and its whole output."""
        with self.patch.context() as patch:
            patch.setattr(sys, "argv", list(arguments))
            patch.setattr(sys, "stdin", StringIO("y\n"))
            with pytest.raises(SystemExit) as ended:
                cli.main()
        output, errors = self.captured.readouterr()
        code = ended.value.code
        return (code, output + errors) if isinstance(code, int) else (int(code is not None), f"{output}{errors}{code}")


@contextmanager
def health_of(directory: Path, patch: pytest.MonkeyPatch, *, stuck: tuple[str, float] | None = None) -> Iterator[None]:
    """During the block, a worker process on this machine reports its health.

    Parameters:
      directory: the directory of its reports.
      stuck: the name of a stuck thread, and for how many seconds it has been stuck.
    """
    name, seconds = stuck or ("poller-results-0", 0)
    # It reports only once: a time in the future keeps the report valid for the whole block.
    at = time.monotonic() + PATIENCE_S
    signs = {name: LifeSign(at - seconds, within_s=60)}
    health.write(directory, health.Report(pid=12, at=at, state="taking", last_signs=signs))
    with patch.context() as patched, serving(Endpoint("127.0.0.1", 0, health.Reports(directory).answer)) as port:
        patched.setenv("GRAPHNODE_HEALTH_PORT", str(port))
        yield
