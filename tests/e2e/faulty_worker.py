"""`graphnode worker` with fault injection: a summary that contains UNEXPECTED raises an error that quotes it."""

from __future__ import annotations

from graphnode.cli import main
from graphnode.contract import decoding
from graphnode.contract.documents import SummaryDocument
from graphnode.contract.repairs import Warnings

decode_summary = decoding.decode_summary


def fail_to_decode(raw: bytes, *, warnings: Warnings | None = None) -> SummaryDocument:
    """Decode a summary, or raise an unexpected error."""
    if b"UNEXPECTED" in raw:
        raise ValueError(raw.decode())
    return decode_summary(raw, warnings=warnings)


if __name__ == "__main__":
    decoding.decode_summary = fail_to_decode
    main()
