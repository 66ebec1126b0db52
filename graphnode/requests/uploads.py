"""Uploads files and folders to the payload bucket, as inputs of requests."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from graphnode.clients.aws import Aws, CallLimits
from graphnode.errors import InvalidRequest
from graphnode.settings import UploadSettings, read_settings
from graphnode.text import LONGEST_PROBLEM, excerpt

#: boto3's defaults: a slow line needs longer for a part of a file than a worker has for a call.
LIMITS = CallLimits(connect_timeout_s=60, read_timeout_s=60, attempts=5)


class Location(NamedTuple):
    """An object in S3, or a prefix that ends in `/`."""

    bucket: str
    key: str

    @classmethod
    def of(cls, text: str) -> Location | None:
        """The location of s3://BUCKET/KEY; None for another text. Raises InvalidRequest for a URL without a key."""
        if not text.startswith("s3://"):
            return None
        if found := re.fullmatch(r"s3://([^/]+)/(.+)", text, re.DOTALL):
            return cls(found[1], found[2])
        raise InvalidRequest(
            f"{excerpt(text, most=LONGEST_PROBLEM)} names no object: expected s3://BUCKET/KEY, or s3://BUCKET/PREFIX/"
        )


def upload(path: Path, *, prefix: str, tell: Callable[[str], None]) -> Location:
    """Upload a file, or a folder without its hidden files, to S3_PAYLOAD_BUCKET.

    Parameters:
      prefix: the beginning of the keys, without `/` at the end.
      tell: called with a line for each object.

    Returns the file's location; for a folder, the prefix of its files. Raises SettingsError, boto3's errors, and
    InvalidRequest if there is nothing to upload.
    """
    known = read_settings(os.environ, UploadSettings)
    path = path.resolve()
    files = sorted(_files(path)) if path.is_dir() else [path]
    if not all(file.is_file() for file in files):
        raise InvalidRequest(f"There is no file or folder {path}")
    if not files:
        raise InvalidRequest(f"The folder {path} has no files")
    s3 = Aws(region=known.aws_region, endpoint_url=known.aws_endpoint_url, limits=LIMITS).s3()
    for file in files:
        key = f"{prefix}/{file.relative_to(path.parent).as_posix()}"
        s3.upload_file(str(file), known.s3_payload_bucket, key)
        tell(f"put   s3://{known.s3_payload_bucket}/{key} ({file.stat().st_size:,} bytes)")
    return Location(known.s3_payload_bucket, f"{prefix}/{path.name}" + ("/" if path.is_dir() else ""))


def _files(folder: Path) -> Iterator[Path]:
    """The files below a folder, without hidden ones: .git, .obsidian and .DS_Store hold no texts of the user."""
    for file in folder.rglob("*"):
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts):
            yield file
