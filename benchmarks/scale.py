"""How a deployment scales: results a second by worker processes, and storing and reading in a full database.

First workers of 1 and 2 processes with 8 threads handle the ordinary mix of results (`benchmarks/mix.py`). The CPU time
of each part is measured, and the floor of a worker's: a loop that only moves the data (`benchmarks/floor.py`). Then
graphs of 1,000 to 100,000 edges are stored, to see how the cost grows. Then a database is filled with a million users
(`benchmarks/crowd.py`), and first graphs are stored in it and in an empty one: with the server running, and with
nothing of the databases in memory. Finally the queries of docs/database.md run there.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks import full_database, mix
from benchmarks.documents import changed_document, graph_document
from benchmarks.output import option_parser, report, tell
from benchmarks.persist import running_database, store

PARTS = ("rates", "growth", "full")

#: Edges of the graphs that show the growth. Each graph has a tenth as many nodes.
EDGES = (1_000, 3_000, 10_000, 30_000, 100_000)
ROUNDS = 3


def main() -> None:
    """Measure, and print the figures."""
    parser = option_parser("scale", __doc__)
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this part only; may be repeated")
    rows = full_database.NODE_ROWS
    parser.add_argument("--rows", type=int, default=rows, help=f"nodes of the full database (default: {rows:,})")
    parser.add_argument("--plans", action="store_true", help="print the plans of the queries as well")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    for part in options.only or PARTS:
        match part:
            case "rates":
                figures |= mix.measure_rates()
            case "growth":
                figures |= measure_growth()
            case "full":
                figures |= full_database.measure(node_rows=options.rows, tell_plans=options.plans)
    report(figures, as_json=options.json, lines=table(figures))


def table(figures: Mapping[str, Any]) -> Iterator[str]:
    """The figures as lines: one for each figure, or for each row of a figure that is a list."""
    for name, figure in figures.items():
        for row in figure if isinstance(figure, list) else [figure]:
            cells = row.items() if isinstance(row, dict) else [("", row)]
            yield f"{name:<22}" + "".join(f"{cell:>14} {value}" for cell, value in cells)


def measure_growth() -> dict[str, Any]:
    """Seconds by edges: to store a first graph, and to replace it by one that is 90 % the same."""
    first: dict[int, list[float]] = defaultdict(list)
    replaced: dict[int, list[float]] = defaultdict(list)
    documents = {edges: graph_document(edges // 10, edges) for edges in EDGES}
    with running_database():
        for number in range(1, ROUNDS + 1):
            for edges, document in documents.items():
                user_id = f"user-{number}-{edges}"
                first[edges].append(store(document, user_id=user_id))
                replaced[edges].append(store(changed_document(document), user_id=user_id, task="replacement"))
                seconds = f"first {first[edges][-1]:.3f} s, replaced {replaced[edges][-1]:.3f} s"
                tell(f"{edges} edges, round {number} of {ROUNDS}: {seconds}")
    return {
        "exponent": exponent(first),
        "exponent_replaced": exponent(replaced),
        "growth": [
            {
                "edges": edges,
                "first_s": round(statistics.median(first[edges]), 4),
                "replaced_s": round(statistics.median(replaced[edges]), 4),
            }
            for edges in EDGES
        ],
    }


def exponent(seconds: Mapping[int, Sequence[float]]) -> float:
    """The exponent with which the medians grow by size (1 is linear): the slope of a line through the logarithms."""
    medians = [math.log(statistics.median(times)) for times in seconds.values()]
    return round(statistics.linear_regression([math.log(size) for size in seconds], medians).slope, 3)


if __name__ == "__main__":
    main()
