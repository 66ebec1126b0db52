"""A user's graph as terminal text: status, counts, clusters with their keywords, the newest notifications."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from graphnode.operations.show.stored_graph import Overview, StoredNotification
from graphnode.text import printable

#: Clusters that are listed. The picture shows all of them.
LISTED = 20

#: Characters in the longest bar.
BAR = 10


def overview(shown: Overview) -> RenderableType:
    """Text for a console of at least 80 columns. It loses nothing without colours."""
    return Group(*_parts(shown))


def _parts(shown: Overview) -> Iterator[RenderableType]:
    graph = shown.graph
    status = "has no graph"
    if graph.status:
        status = f"{graph.status} · updated {graph.updated_at:%Y-%m-%d %H:%M} UTC"
    yield Text.assemble((printable(graph.user_id), "bold"), "  ", status)
    if graph.status:
        yield Text(f"{shown.node_count:,} nodes · {shown.edge_count:,} edges · {len(graph.clusters):,} clusters")
    if graph.clusters or shown.without_cluster:
        yield Text("\nClusters", style="bold")
        yield _clusters(shown)
    if shown.notifications:
        yield Text("\nNewest notifications", style="bold")
        yield _notifications(shown.notifications)


def _clusters(shown: Overview) -> Table:
    table = _table()
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("bar", width=BAR, style="cyan")
    table.add_column("name", max_width=28, overflow="fold")
    table.add_column("keywords", style="dim", ratio=1, overflow="fold")
    clusters = shown.graph.clusters
    rows: list[tuple[int, str, Iterable[str]]] = [
        (cluster.size, cluster.name, cluster.keywords) for cluster in clusters[:LISTED]
    ]
    if rest := clusters[LISTED:]:
        rows.append((sum(cluster.size for cluster in rest), f"{len(rest):,} smaller clusters", ()))
    if shown.without_cluster:
        rows.append((shown.without_cluster, "no cluster", ()))
    largest = max(1, *(size for size, _, _ in rows))
    for size, name, keywords in rows:
        bar = "█" * max(round(BAR * size / largest), size > 0)
        table.add_row(Text(f"{size:,}"), Text(bar), Text(name), Text(", ".join(keywords)))
    return table


def _notifications(newest: Iterable[StoredNotification]) -> Table:
    table = _table()
    table.add_column("when", no_wrap=True)
    table.add_column("what", ratio=1, overflow="fold")
    table.add_column("push", no_wrap=True)
    for notification in newest:
        details = ", ".join(
            f"{name} {value}"
            for name, value in notification.payload.items()
            if name not in ("taskId", "timestamp") and isinstance(value, int | float | str)
        )
        table.add_row(
            Text(f"{notification.created_at:%Y-%m-%d %H:%M}"),
            Text.assemble(printable(notification.type), (f"\n{printable(details)}" * bool(details), "dim")),
            Text(f"push {notification.push_status}"),
        )
    return table


def _table() -> Table:
    return Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False, expand=True)
