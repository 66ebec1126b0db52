"""How far a deployment grows: results a second by worker processes; storing and reading in a database that is full.

First the ordinary mix of results is kept coming at 1, 2 and 4 processes of 8 threads, in turn (`benchmarks/mix.py` says
what is in it), with the CPU time of each part. Then graphs of 1,000 to 100,000 edges are stored, to see how the cost
grows. Then a database is filled with a million users (`benchmarks/crowd.py`), and first graphs are stored in it and in
an empty one, in turn: with the server running, and with nothing of the databases in memory. At last the queries of
docs/database.md are run there. All of it is on loopback and on embedded servers, and ends by itself.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import full, mix
from benchmarks.persist import changed_document, graph_document, running_database, store, tell

PARTS = ("rates", "growth", "full")

#: Edges of the graphs by which the growth is told; each has a tenth as many nodes.
EDGES = (1_000, 3_000, 10_000, 30_000, 100_000)
ROUNDS = 3


def main() -> None:
    """Measure, and print the figures as one line of JSON, or one a line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the figures as one line of JSON")
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this part; may be given again")
    parser.add_argument(
        "--rows", type=int, default=full.NODE_ROWS, help=f"nodes of the full database, if not {full.NODE_ROWS:,}"
    )
    parser.add_argument("--plans", action="store_true", help="tell the queries' plans, too")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    for part in options.only or PARTS:
        match part:
            case "rates":
                figures |= mix.measure_rates()
            case "growth":
                figures |= measure_growth()
            case "full":
                figures |= full.measure_full(node_rows=options.rows, tell_plans=options.plans)
    if options.json:
        print(json.dumps(figures))  # noqa: T201
        return
    for name, figure in figures.items():
        rows = figure if isinstance(figure, list) else [figure]
        for row in rows:
            cells = row.items() if isinstance(row, dict) else [("", row)]
            print(f"{name:<22}" + "".join(f"{cell:>14} {value}" for cell, value in cells))  # noqa: T201


def measure_growth() -> dict[str, Any]:
    """Seconds by edges: of a first graph, and of one that takes its place and is 90 % the same."""
    first: dict[int, list[float]] = defaultdict(list)
    replaced: dict[int, list[float]] = defaultdict(list)
    documents = {edges: graph_document(edges // 10, edges) for edges in EDGES}
    with running_database():
        for number in range(1, ROUNDS + 1):
            for edges, document in documents.items():
                user_id = f"user-{number}-{edges}"
                first[edges].append(store(document, user_id=user_id))
                replaced[edges].append(store(changed_document(document), user_id=user_id, task="replacement"))
                seen = f"first {first[edges][-1]:.3f} s, replaced {replaced[edges][-1]:.3f} s"
                tell(f"{edges} edges, round {number} of {ROUNDS}: {seen}")
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
    """The exponent with which the medians grow, by size: the slope of the line through the logarithms. 1 is linear."""
    medians = [math.log(statistics.median(some)) for some in seconds.values()]
    return round(statistics.linear_regression([math.log(size) for size in seconds], medians).slope, 3)


if __name__ == "__main__":
    main()
