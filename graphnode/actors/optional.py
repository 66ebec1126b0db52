"""Documents that a result can do without: they never cost the user the rest of it."""

from __future__ import annotations

from typing import Protocol, TypeVar

from graphnode.errors import DocumentTooLarge, InvalidDocument, ObjectNotFound
from graphnode.objects import read_document
from graphnode.repairs import Warnings

D_co = TypeVar("D_co", covariant=True)


class Decode(Protocol[D_co]):
    """A decoder of documents.py."""

    def __call__(self, raw: bytes, *, warnings: Warnings | None = None) -> D_co: ...


def read_optional(key: str | None, decode: Decode[D_co], *, name: str, warnings: Warnings) -> D_co | None:
    """Read and decode a document; or add a warning that says why it is left out.

    Parameters:
      key: its S3 key; None: it was not sent, which is no warning.
      decode: raises InvalidDocument.
      name: what the warning calls it.
      warnings: where the warning, and the decoder's own, are counted.
    """
    if key is None:
        return None
    try:
        return decode(read_document(key), warnings=warnings)
    except (ObjectNotFound, DocumentTooLarge, InvalidDocument) as error:
        warnings[f"{name} left out: {error}"] = 1
        return None
