"""The old name of `graphnode.contract.requests`, for API servers that still import it."""

from __future__ import annotations

import warnings

from graphnode.contract.requests import *  # noqa: F403

warnings.warn(
    "graphnode.request_payloads is now graphnode.contract.requests: import that. The old name goes with release 0.3.",
    DeprecationWarning,
    stacklevel=2,
)
