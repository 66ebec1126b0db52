"""The release before this version, as it was shipped: its wheel, which `make keep-release` renews."""

from __future__ import annotations

import zipfile
from pathlib import Path

(WHEEL,) = (Path(__file__).parent / "releases").glob("*.whl")

#: As graphnode.__version__ has it.
VERSION = WHEEL.name.split("-")[1]

_PLACE = "graphnode/storage/migrations/"


def migrations() -> dict[str, str]:
    """Its migrations: the text of each file, by name."""
    with zipfile.ZipFile(WHEEL) as wheel:
        return {
            Path(name).stem: wheel.read(name).decode()
            for name in wheel.namelist()
            if name.startswith(_PLACE) and name[len(_PLACE)].isdigit()
        }


def unpack(directory: Path) -> None:
    """Unpack it, to be run from this directory."""
    with zipfile.ZipFile(WHEEL) as wheel:
        wheel.extractall(directory)
