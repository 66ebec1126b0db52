"""The previous release as it was shipped: its wheel, which `make keep-release` replaces."""

from __future__ import annotations

import zipfile
from pathlib import Path

(WHEEL,) = (Path(__file__).parent / "releases").glob("*.whl")

#: Its version, in the form of graphnode.__version__.
VERSION = WHEEL.name.split("-")[1]

_PLACE = "graphnode/storage/migrations/"


def migrations() -> dict[str, str]:
    """The text of each of its migrations, by name."""
    with zipfile.ZipFile(WHEEL) as wheel:
        return {
            Path(name).stem: wheel.read(name).decode()
            for name in wheel.namelist()
            if name.startswith(_PLACE) and name[len(_PLACE)].isdigit()
        }


def unpack(directory: Path) -> None:
    """Unpack it into this directory, to run it from there."""
    with zipfile.ZipFile(WHEEL) as wheel:
        wheel.extractall(directory)
