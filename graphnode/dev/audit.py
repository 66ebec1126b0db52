"""What a worker is made of: each package that its installation needs, its version, and when that was released.

`pip-audit` says which versions are known to be vulnerable; this says how old they are, also where no such data can be
had. The index is asked for each package, as pip asks it: https://peps.python.org/pep-0700/
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from urllib.request import Request, urlopen

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

#: What is asked about, with the extras of a deployment.
PROJECT, EXTRAS = "graphnode-worker", ("otel", "sentry", "ai")

#: Where packages come from, unless pip is told otherwise.
INDEX = "https://pypi.org/simple"

TIMEOUT_S = 30


def main() -> int:
    """Print a line a package, the oldest first; the exit code."""
    index = os.environ.get("PIP_INDEX_URL") or INDEX
    found = dict(sorted(needed(PROJECT, EXTRAS, seen=set())))
    found.pop(PROJECT, None)
    lines = [(released(name, version, index=index), name, version) for name, version in found.items()]
    for date, name, version in sorted(lines):
        print(f"{date}  {name} {version}")  # noqa: T201
    return 0


def needed(name: str, extras: tuple[str, ...], *, seen: set[str]) -> Iterator[tuple[str, str]]:
    """The packages that are installed for one: name and version of itself, and of all that it requires."""
    name = canonicalize_name(name)
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return
    if name not in seen:
        seen.add(name)
        yield name, found.version
        for line in found.requires or ():
            wanted = Requirement(line)
            marker = wanted.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                yield from needed(wanted.name, tuple(wanted.extras), seen=seen)


def released(name: str, version: str, *, index: str) -> str:
    """The day on which the first file of a version came to the index; dots where it does not say."""
    request = Request(f"{index.rstrip('/')}/{name}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"})  # noqa: S310
    try:
        with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310  # nosec B310 # pip's own index
            files = json.load(answer)["files"]
    except (OSError, ValueError, KeyError) as error:
        print(f"{name}: the index does not say ({type(error).__name__})", file=sys.stderr)  # noqa: T201
        return "." * 10
    wheels = {f"-{version}-", f"-{version}.tar"}
    days = [file["upload-time"][:10] for file in files if any(part in file["filename"] for part in wheels)]
    return min(days, default="." * 10)


if __name__ == "__main__":
    sys.exit(main())
