"""The colours and shapes that tell clusters apart, on light and on dark.

Each hue has one colour for either ground, with a contrast of 3:1 or more to it (WCAG 2.2, 1.4.11). The hues of one
ground stay apart with a protanopia, deuteranopia or tritanopia, mostly by their lightness: more than eight would not.
So from the ninth cluster on the shape of the nodes changes, and the name stands at each cluster anyway.
"""

from __future__ import annotations

from typing import NamedTuple


class Ground(NamedTuple):
    """A ground to draw on, as CSS colours: the paper, the text on it, secondary text, lines, and a colour a hue."""

    paper: str
    ink: str
    muted: str
    line: str
    none: str
    hues: tuple[str, ...]


LIGHT = Ground(
    paper="#fbfaf7",
    ink="#1f2328",
    muted="#59616b",
    line="#7d8590",
    none="#7f8791",
    hues=("#3b39ac", "#b13a1e", "#11785e", "#cc7d00", "#7b226e", "#1c91f5", "#ed56b1", "#7c1bf0"),
)
DARK = Ground(
    paper="#14171c",
    ink="#e6e8eb",
    muted="#9aa4b2",
    line="#8b95a3",
    none="#8a929c",
    hues=("#5675ce", "#ff6f26", "#35af71", "#ccd676", "#b55789", "#adc6fe", "#ffbcca", "#855aff"),
)

#: The shapes of nodes, in the order in which they are used up.
SHAPES = ("circle", "square", "triangle", "diamond")

#: How many clusters have a look of their own; after that, looks repeat.
LOOKS = len(LIGHT.hues) * len(SHAPES)


class Look(NamedTuple):
    """How a cluster's nodes look; the hue of None is the grey of what has no cluster."""

    hue: int | None
    shape: str


def look(place: int) -> Look:
    """The look of the cluster at this place of the list, from 0."""
    place %= LOOKS
    return Look(place % len(LIGHT.hues), SHAPES[place // len(LIGHT.hues)])


def variables(ground: Ground) -> str:
    """The ground's colours as CSS custom properties."""
    colours = {"paper": ground.paper, "ink": ground.ink, "muted": ground.muted, "line": ground.line}
    colours |= {"none": ground.none} | {f"h{number}": hue for number, hue in enumerate(ground.hues)}
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())


def variable(hue: int | None) -> str:
    """The name of a hue's custom property."""
    return "--none" if hue is None else f"--h{hue}"
