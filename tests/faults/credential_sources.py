"""Where a test's worker gets its AWS credentials: a shared credentials file, or the endpoint of a container."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from benchmarks.local_server import LocalServer

#: The access key IDs before and after a rotation.
OLD, NEW = "KEY-OF-YESTERDAY", "KEY-OF-TODAY"

#: The variables of a process that finds no credentials: an empty one is not set.
WITHOUT_KEYS = {
    "AWS_ACCESS_KEY_ID": "",
    "AWS_SECRET_ACCESS_KEY": "",
    "AWS_SESSION_TOKEN": "",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


class CredentialFile:
    """A shared credentials file with the old key.

    Parameters:
      path: where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.key_id = ""
        self.write(OLD)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process that has no other credentials."""
        return {**WITHOUT_KEYS, "AWS_SHARED_CREDENTIALS_FILE": str(self.path)}

    def write(self, key_id: str) -> None:
        """Replace the credentials in it, so that nobody reads half of them."""
        self.key_id = key_id
        written = self.path.with_suffix(".new")
        written.write_text(f"[default]\naws_access_key_id = {key_id}\naws_secret_access_key = secret\n")
        written.replace(self.path)


class ContainerEndpoint(LocalServer):
    """The endpoint of a container's credentials. It hands out what a test sets."""

    def __init__(self) -> None:
        super().__init__(_Call)
        self.key_id = OLD
        self.lifetime = timedelta(hours=1)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process that has no other credentials."""
        return {**WITHOUT_KEYS, "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.url}/credentials"}


class _Call(BaseHTTPRequestHandler):
    server: ContainerEndpoint

    def do_GET(self) -> None:
        """Hand out credentials."""
        expiration = datetime.now(UTC) + self.server.lifetime
        handed_out = {
            "AccessKeyId": self.server.key_id,
            "SecretAccessKey": "secret",
            "Token": "token",
            "Expiration": expiration.isoformat(),
        }
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(handed_out).encode())

    def log_message(self, *_: object) -> None:
        """Log nothing."""
