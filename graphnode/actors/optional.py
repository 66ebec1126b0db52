"""Documents that a result can do without: they never cost the user the rest of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from graphnode.clients.s3 import read_document
from graphnode.contract.repairs import Warnings
from graphnode.errors import DocumentTooLarge, InvalidDocument, ObjectNotFound, RefusedByDatabase

D_co = TypeVar("D_co", covariant=True)


class Decode(Protocol[D_co]):
    """A decoder of contract/decoding.py."""

    def __call__(self, raw: bytes, *, warnings: Warnings | None = None) -> D_co: ...


def read_optional(key: str | None, decode: Decode[D_co], *, name: str, warnings: Warnings) -> D_co | None:
    """Read and decode a document; or add a warning that says why it is left out.

    Parameters:
      key: its S3 key; None: it was not sent, which is no warning.
      decode: raises InvalidDocument.
      name: what the warning calls it.
      warnings: where the warning, and the decoder's own, are counted.
    """
    document = None
    if key is not None:
        with left_out_if_faulty(name, warnings):
            document = decode(read_document(key), warnings=warnings)
    return document


@contextmanager
def left_out_if_faulty(name: str, warnings: Warnings) -> Iterator[None]:
    """End the block where the document is missing, too large, invalid or refused; a warning says so.

    Parameters:
      name: what the warning calls the document.
      warnings: where it is counted.
    """
    try:
        yield
    except (ObjectNotFound, DocumentTooLarge, InvalidDocument, RefusedByDatabase) as error:
        warnings[f"{name} left out: {error}"] = 1
