"""Pictures of the simulated days as SVG, in the reader's light or dark colour scheme."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from xml.etree.ElementTree import Element, SubElement, tostring

from benchmarks.fleet import MINUTE_S, Day, Load
from graphnode.operations.show.palette import DARK, LIGHT, variables

WIDTH = 820
LEFT, RIGHT = 62, 26

#: The top and the height of each panel of a day.
ARRIVALS, LATENCY, TASKS = (132, 56), (224, 168), (428, 136)
DAY_HEIGHT = 606

#: The hue, width and dashes of each scaling's line. The lines differ without colour as well.
LINES = (
    ("--h1", "1.5", ""),
    ("--h3", "1.7", "5 3"),
    ("--h0", "3.2", ""),
    ("--h2", "1.7", "1.5 3"),
    ("--h5", "1.7", "8 3 2 3"),
)

#: The line that is drawn first, below the others: the widest.
LOWEST = 2

#: The labels of the logarithmic axis.
SECONDS = {0.1: "0.1 s", 1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h"}

STYLE = """
.paper{fill:var(--paper)}
text{fill:var(--ink);font:13px "Noto Sans","Helvetica Neue","Segoe UI",Arial,sans-serif}
.title{font-size:18px;font-weight:650}
.small{fill:var(--muted);font-size:12px}
.end{text-anchor:end}
.middle{text-anchor:middle}
.grid{stroke:var(--line);stroke-opacity:.22}
.limit{stroke:var(--line);stroke-dasharray:2 3}
.away{fill:var(--line);fill-opacity:.14}
.came{fill:var(--line);fill-opacity:.45}
.drawn{fill:none;stroke-linejoin:round;stroke-linecap:round}
"""

TITLES = {
    "diurnal": ("A day and a night", "20 results a second at midnight, 1,000 at noon"),
    "burst": ("A burst", "20 results a second; fifty times as many for ten minutes"),
    "outage": ("An outage, and its backlog", "200 results a second; the database is away from 10:00 to 12:00"),
    "big graphs": ("Big graphs, now and then", "one in two minutes; imports of 200 at 10:00 and of 300 at 15:00"),
}


def day_picture(load: Load, days: Mapping[str, Day], rows: Sequence[Mapping[str, str | float]], *, limit_s: int) -> str:
    """A load under each scaling: arrivals, longest latency and tasks, by minute.

    Parameters:
      days: by the name of the scaling.
      rows: the figures of the days, in the same order.
      limit_s: the acceptable latency.
    """
    title, what = TITLES[load.name]
    more = max(0, (len(rows) - 3) // 2) * 22
    sentences = " ".join(f"{_sentence(row, limit_s)}." for row in rows)
    root = _paper(DAY_HEIGHT + more, title, f"{title}: {what}. {sentences}")
    _text(root, LEFT, 54, what, "small")
    first, last = load.shown.start // MINUTE_S, load.shown.stop // MINUTE_S

    def across(minute: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (minute - first) / (last - first)

    for number, row in enumerate(rows):
        place = (LEFT + number % 2 * 372, 80 + number // 2 * 22)
        _line_sample(root, *place, number)
        _text(root, place[0] + 34, place[1], _sentence(row, limit_s), "small")
    panels = _add(root, "g", transform=f"translate(0 {more})")
    if load.outage:
        begin, end = (across(edge / MINUTE_S) for edge in (load.outage.start, load.outage.stop))
        high = TASKS[0] + TASKS[1] - ARRIVALS[0]
        _add(panels, "rect", x=begin, y=ARRIVALS[0], width=end - begin, height=high, **{"class": "away"})
    _draw_hours(panels, first, last, across)
    _draw_arrivals(panels, load, first, last, across)
    latencies = {name: [minute.latency_s for minute in day.minutes[first:last]] for name, day in days.items()}
    up = _log_axis(panels, max(map(max, latencies.values())), limit_s)
    for number, values in _lowest_first(latencies.values()):
        points = [(across(first + at), up(value) if value else None) for at, value in enumerate(values)]
        _draw_line(panels, points, number)
    tasks = {name: [minute.tasks for minute in day.minutes[first:last]] for name, day in days.items()}
    up = _task_axis(panels, max(map(max, tasks.values())))
    for number, counts in _lowest_first(tasks.values()):
        _draw_line(panels, _steps([(across(first + at), up(count)) for at, count in enumerate(counts)]), number)
    return tostring(root, encoding="unicode") + "\n"


def summary_picture(rows: Sequence[Mapping[str, str | float]], *, limit_s: int) -> str:
    """Each load under each scaling: the share within the acceptable latency, and the cost of a day."""
    groups = [(str(load), list(group)) for load, group in groupby(rows, key=lambda row: row["load"])]
    names = list(dict.fromkeys(str(row["scaling"]) for row in rows))
    height = 108 + sum(len(group) * 19 + 22 for _, group in groups)
    sentences = "; ".join(f"{row['load']}, {_sentence(row, limit_s)}" for row in rows)
    title = "Cost of a day, and results in time"
    root = _paper(height, title, f"{title}: {sentences}.")
    at = float(LEFT - 40)
    for number, name in enumerate(names):
        _add(root, "rect", x=at, y=47, width=12, height=10, style=f"fill:var({LINES[number][0]})")
        _text(root, at + 18, 57, name, "small")
        at += 38 + len(name) * 5.9
    columns = ((150, 240, "in_time", f"within {limit_s} s"), (485, 240, "cost_a_day", "dollars a day"))
    for left, _, _, head in columns:
        _text(root, left, 86, head, "small")
    y = 100.0
    for load, group in groups:
        _text(root, LEFT - 40, y + len(group) * 9.5 + 3, TITLES[load][0].partition(",")[0])
        for row in group:
            hue = LINES[names.index(str(row["scaling"]))][0]
            for left, room, name, _ in columns:
                value = float(row[name])
                most = max(float(other[name]) for other in rows)
                _add(root, "rect", x=left, y=y, width=max(1, room * value / most), height=13, style=f"fill:var({hue})")
                label = f"{value:.1%}" if name == "in_time" else f"{value:.2f}"
                _text(root, left + room * value / most + 6, y + 11, label, "small")
            y += 19
        y += 22
    return tostring(root, encoding="unicode") + "\n"


def _sentence(row: Mapping[str, str | float], limit_s: int) -> str:
    return f"{row['scaling']}: {float(row['in_time']):.1%} in {limit_s} s, ${float(row['cost_a_day']):.2f} a day"


def _paper(height: float, title: str, description: str) -> Element:
    look = {"viewBox": f"0 0 {WIDTH} {height:g}", "width": str(WIDTH), "height": f"{height:g}", "role": "img"}
    root = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **look, "aria-labelledby": "title desc"})
    SubElement(root, "title", {"id": "title"}).text = title
    SubElement(root, "desc", {"id": "desc"}).text = description
    schemes = f"@media(prefers-color-scheme:dark){{:root{{{variables(DARK)}}}}}"
    SubElement(root, "style").text = f":root{{color-scheme:light dark;{variables(LIGHT)}}}{schemes}{STYLE}"
    _add(root, "rect", width=WIDTH, height=height, rx=8, **{"class": "paper"})
    _text(root, LEFT - 40, 32, title, "title")
    return root


def _draw_hours(root: Element, first: int, last: int, across: Callable[[float], float]) -> None:
    foot = TASKS[0] + TASKS[1]
    span = (last - first) / 60
    step = next(minutes for minutes in (15, 30, 60, 180) if span * 60 / minutes <= 12)
    for minute in range(math.ceil(first / step) * step, last + 1, step):
        x = across(minute)
        _add(root, "line", x1=x, x2=x, y1=ARRIVALS[0], y2=foot, **{"class": "grid"})
        _text(root, x, foot + 18, f"{minute // 60}:{minute % 60:02}", "small middle")


def _draw_arrivals(root: Element, load: Load, first: int, last: int, across: Callable[[float], float]) -> None:
    top, height = ARRIVALS
    minutes = [sum(load.arrivals[at * MINUTE_S : (at + 1) * MINUTE_S]) for at in range(first, last)]
    most = max(minutes)
    points: list[tuple[float, float]] = [(across(first), top + height)]
    points += _steps([(across(first + at), top + height * (1 - count / most)) for at, count in enumerate(minutes)])
    points.append((points[-1][0], top + height))
    _text(root, LEFT - 40, top - 6, f"messages a minute, up to {most:,}", "small")
    _add(root, "polygon", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), **{"class": "came"})


def _log_axis(root: Element, most: float, limit_s: int) -> Callable[[float], float]:
    top, height = LATENCY
    floor = min(SECONDS)
    ceiling = max(most * 1.15, limit_s * 2.0)

    def up(value: float) -> float:
        return top + height * (1 - math.log(max(value, floor) / floor) / math.log(ceiling / floor))

    _text(root, LEFT - 40, top - 10, "longest latency", "small")
    for seconds, name in SECONDS.items():
        if seconds <= ceiling:
            _add(root, "line", x1=LEFT, x2=WIDTH - RIGHT, y1=up(seconds), y2=up(seconds), **{"class": "grid"})
            _text(root, LEFT - 8, up(seconds) + 4, name, "small end")
    _add(root, "line", x1=LEFT, x2=WIDTH - RIGHT, y1=up(limit_s), y2=up(limit_s), **{"class": "limit"})
    return up


def _task_axis(root: Element, most: int) -> Callable[[float], float]:
    top, height = TASKS

    def up(value: float) -> float:
        return top + height * (1 - value / most)

    _text(root, LEFT - 40, top - 10, "tasks", "small")
    for count in range(0, most + 1, 5 if most > 8 else 1):
        _add(root, "line", x1=LEFT, x2=WIDTH - RIGHT, y1=up(count), y2=up(count), **{"class": "grid"})
        _text(root, LEFT - 8, up(count) + 4, str(count), "small end")
    return up


def _steps(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The corners of a line of steps: each value holds until the next point."""
    corners = [points[0]]
    for (x, y), (_, before) in zip(points[1:], points, strict=False):
        corners += [(x, y)] if y == before else [(x, before), (x, y)]
    return corners


def _lowest_first(series: Iterable[Sequence[float]]) -> list[tuple[int, Sequence[float]]]:
    return sorted(enumerate(series), key=lambda numbered: numbered[0] != LOWEST)


def _draw_line(root: Element, points: Sequence[tuple[float, float | None]], number: int) -> None:
    """A line with a gap where the value is None. A single point is drawn as a dot."""
    path = ""
    for has_value, part in groupby(points, key=lambda point: point[1] is not None):
        if has_value:
            along = [f"{x:.1f} {y:.1f}" for x, y in part]
            path += "M" + "L".join(along if len(along) > 1 else along * 2)
    _add(root, "path", d=path, **{"class": "drawn", **_stroke(number)})


def _line_sample(root: Element, x: float, y: float, number: int) -> None:
    _add(root, "line", x1=x, x2=x + 26, y1=y - 4, y2=y - 4, **_stroke(number))


def _stroke(number: int) -> dict[str, str]:
    hue, width, dashes = LINES[number]
    return {"style": f"stroke:var({hue})", "stroke-width": width} | ({"stroke-dasharray": dashes} if dashes else {})


def _text(root: Element, x: float, y: float, text: str, kind: str = "") -> None:
    _add(root, "text", x=x, y=y, **({"class": kind} if kind else {})).text = text


def _add(root: Element, kind: str, **attributes: str | float) -> Element:
    texts = {name: value if isinstance(value, str) else f"{value:.1f}" for name, value in attributes.items()}
    return SubElement(root, kind, texts)
