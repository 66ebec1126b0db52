"""The spool directory of this machine: can files be made there, and is there room?"""

from __future__ import annotations

import tempfile

from graphnode.clients.spool import spool_fault
from graphnode.operations.doctor.findings import Finding, broken, fine

SUBJECT = "spool directory"


def check_spool(directory: str | None, *, max_features_bytes: int) -> list[Finding]:
    """Findings after making a file there. The parameters are those of `spool_fault`."""
    if fault := spool_fault(directory, max_features_bytes=max_features_bytes):
        return [broken(SUBJECT, fault, why="The worker does not start.", mend="export GRAPHNODE_SPOOL_DIR=…")]
    return [fine(SUBJECT, f"{directory or tempfile.gettempdir()} has room for a features file")]
