"""A picture as one interactive HTML file that loads nothing and runs nothing from the user's texts."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from pathlib import Path
from typing import Any

import msgspec

from graphnode.operations.show.drawing_svg import BUNDLE, corners, counts, legend, strokes, title
from graphnode.operations.show.palette import DARK, LIGHT, SHAPES, variable, variables
from graphnode.operations.show.picture import Picture

TEMPLATE = Path(__file__).with_name("template")


def page(picture: Picture) -> str:
    """The text of an HTML file. Its Content-Security-Policy allows only its own script and style, by their digests."""
    script = (TEMPLATE / "page.js").read_text()
    style = _colours() + (TEMPLATE / "page.css").read_text()
    parts = {
        "title": html.escape(title(picture)),
        "counts": html.escape(counts(picture)),
        "legend": html.escape(legend(picture)),
        "style": style,
        "style_digest": _digest(style),
        "data": _data(picture),
        "script": script,
        "script_digest": _digest(script),
    }
    # In one pass, so that {{...}} in the user's texts stays as it is.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], (TEMPLATE / "page.html").read_text())


def _data(picture: Picture) -> str:
    """The script's input as JSON without `<`, so that no text can end the `script` element."""
    shown = {
        "width": _rounded(picture.width),
        "height": _rounded(picture.height),
        "font": picture.font,
        "spacing": picture.spacing,
        "bundle": BUNDLE,
        "shapes": {shape: corners(shape, 0, 0, 1) for shape in SHAPES if shape != "circle"},
        **_strokes(picture),
        "islands": [
            {
                "name": island.name,
                "keywords": island.keywords,
                "size": island.size,
                "colour": variable(island.look.hue),
                "shape": island.look.shape,
                "lines": island.lines,
                "label": [_rounded(edge) for edge in island.label],
                "outline": [(_rounded(x), _rounded(y)) for x, y in island.outline],
                "x": _rounded(island.x),
                "y": _rounded(island.y),
            }
            for island in picture.islands
        ],
        "nodes": [
            {
                "x": _rounded(placed.x),
                "y": _rounded(placed.y),
                "radius": _rounded(placed.radius),
                "island": placed.island,
                "id": placed.node.orig_id,
                "title": placed.node.title,
                "keywords": placed.node.keywords,
                "source": placed.node.source_type or "",
                "messages": placed.node.num_messages,
                "date": f"{placed.node.timestamp:%Y-%m-%d}" if placed.node.timestamp else "",
            }
            for placed in picture.nodes
        ],
        "links": [(link.source, link.target, _rounded(link.weight)) for link in picture.links],
    }
    return msgspec.json.encode(shown).decode().replace("<", "\\u003c")


def _strokes(picture: Picture) -> dict[str, Any]:
    widths, drawn = strokes(picture)
    return {"strokes": widths, "drawn": list(drawn.items())}


def _colours() -> str:
    """The style rules of both schemes: the system's preference, unless the page's switch overrides it."""
    return (
        f":root{{color-scheme:light dark;{variables(LIGHT)}}}"
        f'@media(prefers-color-scheme:dark){{:root:not([data-scheme="light"]){{{variables(DARK)}}}}}'
        f':root[data-scheme="light"]{{color-scheme:light}}'
        f':root[data-scheme="dark"]{{color-scheme:dark;{variables(DARK)}}}\n'
    )


def _digest(text: str) -> str:
    """The hash source of a script or style. https://www.w3.org/TR/CSP3/#grammardef-hash-source"""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _rounded(value: float) -> float:
    return round(value, 2)
