"""The colours and shapes that tell clusters apart, for a light and a dark scheme.

Each hue has one colour per scheme, with a contrast of at least 3:1 to the background (WCAG 2.2, 1.4.11). The eight hues
of a scheme stay distinct with protanopia, deuteranopia and tritanopia, mostly by lightness; more than eight would not.
So the shape of the nodes changes from the ninth cluster on. Each cluster also shows its name.
"""

from __future__ import annotations

from typing import NamedTuple


class ColourScheme(NamedTuple):
    """CSS colours: background, text, secondary text, lines, nodes without a cluster, and one colour per hue."""

    paper: str
    ink: str
    muted: str
    line: str
    none: str
    hues: tuple[str, ...]


LIGHT = ColourScheme(
    paper="#fbfaf7",
    ink="#1f2328",
    muted="#59616b",
    line="#7d8590",
    none="#7f8791",
    hues=("#3b39ac", "#b13a1e", "#11785e", "#cc7d00", "#7b226e", "#1c91f5", "#ed56b1", "#7c1bf0"),
)
DARK = ColourScheme(
    paper="#14171c",
    ink="#e6e8eb",
    muted="#9aa4b2",
    line="#8b95a3",
    none="#8a929c",
    hues=("#5675ce", "#ff6f26", "#35af71", "#ccd676", "#b55789", "#adc6fe", "#ffbcca", "#855aff"),
)

#: The shapes of nodes, in the order of their use.
SHAPES = ("circle", "square", "triangle", "diamond")

#: Number of distinct looks. With more clusters, looks repeat.
LOOKS = len(LIGHT.hues) * len(SHAPES)


class Look(NamedTuple):
    """How a cluster's nodes look. A hue of None is the grey of nodes without a cluster."""

    hue: int | None
    shape: str


def look(index: int) -> Look:
    """The look of the cluster with this index, from 0."""
    index %= LOOKS
    return Look(index % len(LIGHT.hues), SHAPES[index // len(LIGHT.hues)])


def variables(scheme: ColourScheme) -> str:
    """The scheme's colours as CSS custom properties."""
    colours = scheme._asdict()
    colours |= {f"h{number}": hue for number, hue in enumerate(colours.pop("hues"))}
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())


def variable(hue: int | None) -> str:
    """The CSS custom property of a hue."""
    return "--none" if hue is None else f"--h{hue}"
