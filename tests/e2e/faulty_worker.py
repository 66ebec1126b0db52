"""`graphnode worker` with a fault: a summary that is said to be unforeseen raises an error with all of its text."""

from __future__ import annotations

from graphnode.cli import main
from graphnode.contract import decoding
from graphnode.contract.documents import SummaryDocument
from graphnode.contract.repairs import Warnings

decode_summary = decoding.decode_summary


def fail_to_decode(raw: bytes, *, warnings: Warnings | None = None) -> SummaryDocument:
    """Decode, or raise what nobody foresaw."""
    if b"UNFORESEEN" in raw:
        raise ValueError(raw.decode())
    return decode_summary(raw, warnings=warnings)


if __name__ == "__main__":
    decoding.decode_summary = fail_to_decode
    main()
