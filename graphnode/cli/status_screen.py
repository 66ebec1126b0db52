"""A status on one screen: 80 columns, some 25 lines. No meaning is in a colour alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from graphnode.operations.outages import processes_text
from graphnode.operations.status.next_steps import dead_letters_explained, next_steps
from graphnode.operations.status.sources import Activity, QueueState, Status
from graphnode.storage.activity import MOST_COUNTED
from graphnode.storage.workers import WorkerProcess
from graphnode.text import printable

#: Characters of a line's label.
LABEL = 15

#: The most processes, reasons and outages that are listed; the others are counted.
LISTED_WORKERS = 6
LISTED_REASONS = 3
LISTED_OUTAGES = 3

#: The most characters of a host's name, without its domain.
HOST = 18

#: More characters than any table needs.
UNBOUNDED = 1000

GOOD, BAD, DIM = "green", "bold red", "dim"


class Fitted:
    """A table that leaves out columns on a narrow terminal, or becomes a list, rather than to cut its counts.

    Parameters:
      columns, rows: of the whole table.
      spare: the headers of the columns that may be left out, the first one first.
    """

    def __init__(self, columns: Sequence[Column], rows: Sequence[Sequence[Text]], *, spare: Sequence[str]) -> None:
        self.columns, self.rows, self.spare = columns, rows, spare

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """The widest table that fits, or a list."""
        for left_out in range(len(self.spare) + 1):
            table = self._without(self.spare[:left_out])
            if Measurement.get(console, options.update(width=UNBOUNDED), table).maximum <= options.max_width:
                yield table
                return
        yield Text(str(self.columns[0].header), style="bold")
        for name, *cells in self.rows:
            named = zip(self.columns[1:], cells, strict=True)
            counts = Text(" · ").join(Text.assemble(f"{column.header} ", cell) for column, cell in named)
            yield name
            yield Padding(counts, (0, 0, 0, 4))

    def _without(self, left_out: Sequence[str]) -> Table:
        kept = [place for place, column in enumerate(self.columns) if column.header not in left_out]
        columns = [self.columns[place].copy() for place in kept]
        table = Table(*columns, box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        for row in self.rows:
            table.add_row(*(row[place] for place in kept))
        return table


def screen(status: Status) -> RenderableType:
    """The status as `rich` prints it."""
    return Group(*_parts(status))


def _parts(status: Status) -> Iterator[RenderableType]:
    yield Text.assemble(("GraphNode", "bold"), f"{'':{LABEL - 9}}{status.at:%Y-%m-%d %H:%M:%S} UTC")
    yield Text()
    if status.queues:
        yield _queues(status.queues)
        if any(queue.oldest_from == "database" for queue in status.queues):
            yield _line("", Text("≤ by the database: no message is older", style=DIM))
        yield Text()
    if seen := status.activity:
        yield from _tasks(seen)
        yield from _troubles(status, seen)
        yield Text()
        yield from _workers(seen)
    if status.unseen:
        yield Text()
        for place, sentence in enumerate(status.unseen):
            yield _line("Not seen" if place == 0 else "", Text(printable(sentence)), style="bold yellow")
    if status.awaited:
        yield Text()
        yield _line("Waiting", Text(f"for {' and '.join(status.awaited)}"))
    steps = list(next_steps(status))
    if steps:
        yield Text()
    for place, step in enumerate(steps):
        yield _line("Next" if place == 0 else "", Text.assemble((step.command, "bold"), f"  {step.purpose}"))


def _queues(queues: Sequence[QueueState]) -> Fitted:
    def row(queue: QueueState) -> list[Text]:
        problem = Text(f"\n    {queue.problem}", style=BAD) if queue.problem else ""
        return [
            Text.assemble(f"  {queue.name}", problem),
            Text(_count(queue.waiting)),
            Text(_count(queue.in_flight)),
            Text(_count(queue.delayed)),
            Text(_age_of(queue)),
            Text(_count(queue.dead_letters), style=BAD if queue.dead_letters else ""),
        ]

    names = ["waiting", "in flight", "delayed", "oldest", "dead letters"]
    columns = [
        Column("Queues", no_wrap=True, min_width=LABEL - 2),
        *(Column(name, justify="right", no_wrap=True) for name in names),
    ]
    return Fitted(columns, [row(queue) for queue in queues], spare=("delayed", "in flight"))


def _tasks(seen: Activity) -> Iterator[RenderableType]:
    oldest = min((found.oldest_news_at for found in seen.open_tasks), default=None)
    is_cut = sum(found.count for found in seen.open_tasks) >= MOST_COUNTED
    waiting = {found.status: found.count for found in seen.open_tasks}
    news = f" · one without news for {length((seen.at - oldest).total_seconds())}" if oldest else ""
    yield _line("Open tasks", Text(("more than " * is_cut) + (_counts(waiting) or "none") + news))
    ended = _counts(seen.ended.counts) or "none"
    yield _line("Ended tasks", Text(ended if seen.ended.is_exact or ended == "none" else f"about {ended}"))
    yield _line("Ended a minute", _throughput(seen))


def _throughput(seen: Activity) -> Text:
    ended = seen.throughput
    if ended.since:
        minutes = max((seen.at - ended.since).total_seconds() / 60, 1 / 60)
        return Text(f"{ended.last_hour / minutes:,.0f} over the last {minutes:.1f} minutes, at least")
    failed = f" · {ended.failed_in_the_hour:,} failed" if ended.failed_in_the_hour else ""
    return Text(
        f"{ended.last_minute:,} in the last · {_rate(ended.last_5_minutes, 5)} over 5 · "
        f"{_rate(ended.last_hour, 60)} over 60{failed}"
    )


def _troubles(status: Status, seen: Activity) -> Iterator[RenderableType]:
    least = "" if seen.failures_are_exact else " at least"
    failed = _reasons(seen.failed_attempts, "none failed in the last hour", f"in the last hour{least}:")
    waits = "message waits" if seen.retrying == 1 else "messages wait"
    yield _line("Retries", Text(f"{seen.retrying:,} {waits} for a retry · {failed}"))
    dead = _reasons(seen.given_up, "no task in the last 24 hours", f"in the last 24 hours{least}:")
    yield _line("Given up", Text(dead, style=BAD if seen.given_up else ""))
    if explained := dead_letters_explained(status):
        yield _line("", Text(explained))
    waiting = seen.notifications
    more = "+" if waiting.count >= MOST_COUNTED else ""
    oldest = ""
    if waiting.oldest_created_at:
        oldest = f" · the oldest for {length((seen.at - waiting.oldest_created_at).total_seconds())}"
    yield _line("Pushes", Text(f"{waiting.count:,}{more} open · {waiting.due:,}{more} due{oldest}"))
    yield _line("Outages", _outages(seen))


def _outages(seen: Activity) -> Text:
    """Each outage: since when, in how many processes, with which error, and below it what mends it."""
    if not seen.outages:
        return Text("none" if seen.workers else "unknown, as no worker is seen", style=GOOD if seen.workers else "")
    shown: list[Text] = []
    for outage in seen.outages[:LISTED_OUTAGES]:
        lasts = length((seen.at - outage.since).total_seconds())
        told = f"{printable(outage.service)} for {lasts} ({processes_text(outage.processes)})"
        shown.append(Text(f"{told}: {printable(outage.error)}" if outage.error else told, style=BAD))
        if outage.advice:
            shown.append(Text(f"mend: {printable(outage.advice)}"))
    if len(seen.outages) > LISTED_OUTAGES:
        shown.append(Text(f"and {len(seen.outages) - LISTED_OUTAGES} more", style=BAD))
    return Text("\n").join(shown)


def _workers(seen: Activity) -> Iterator[RenderableType]:
    there = [worker for worker in seen.workers if not worker.is_late]
    if not seen.workers:
        yield _line("Workers", Text("none seen in the last hour", style=BAD))
        return
    threads = sum(worker.threads for worker in there)
    late = f" · {len(seen.workers) - len(there)} late" if len(there) < len(seen.workers) else ""
    yield _line("Workers", Text.assemble(f"{processes_text(len(there))}, {threads:,} threads", (late, BAD)))
    shown = sorted(seen.workers, key=lambda worker: (not worker.is_late, worker.host, worker.pid))[:LISTED_WORKERS]
    names = ["pid", "running", "in flight", "done", "retried", "dead", "seen"]
    columns = [
        Column("  host", no_wrap=True, max_width=HOST, overflow="ellipsis"),
        *(Column(name, justify="right", no_wrap=True) for name in names),
    ]
    rows = [_worker(worker, (seen.at - worker.seen_at).total_seconds()) for worker in shown]
    yield Fitted(columns, rows, spare=("retried", "done", "in flight", "dead"))
    if len(seen.workers) > len(shown):
        yield Text(f"  and {len(seen.workers) - len(shown)} more")
    versions = sorted({worker.version for worker in there})
    if len(versions) > 1:
        yield _line("Versions", Text(printable(" and ".join(versions))))


def _worker(worker: WorkerProcess, ago: float) -> list[Text]:
    return [
        Text(f"  {_name(worker.host)}"),
        Text(str(worker.pid)),
        Text(f"{worker.running}/{worker.threads}"),
        Text(f"{worker.in_hand:,}"),
        Text(_short(worker.handled)),
        Text(_short(worker.retried)),
        Text(_short(worker.dead)),
        Text(f"{'late ' if worker.is_late else ''}{length(ago)}", style=BAD if worker.is_late else DIM),
    ]


def length(seconds: float) -> str:
    """A length of time in its largest unit, such as `4 min`."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}" if seconds >= 10 * size else f"{_floor(seconds / size)} {unit}"
    return f"{max(0, seconds):.0f} s"


def _floor(value: float) -> str:
    return f"{int(value * 10) / 10:g}"


def _short(count: int) -> str:
    """A count in about five characters, such as `1.2 M`."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**4)):
        if count >= size:
            return f"{_floor(count / (1000 if unit == 'k' else size))} {unit}"
    return f"{count:,}"


def _name(host: str) -> str:
    host = printable(host)
    return host if host.replace(".", "").isdigit() else host.partition(".")[0]


def _count(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def _age_of(queue: QueueState) -> str:
    if queue.oldest_s is None:
        return "-"
    return f"{'≤ ' if queue.oldest_from == 'database' else ''}{length(queue.oldest_s)}"


def _rate(count: int, minutes: int) -> str:
    rate = count / minutes
    if 0 < rate < 0.1:
        return "under 0.1"
    return f"{rate:,.0f}" if rate >= 10 or rate == 0 else f"{rate:.1f}"


def _counts(counts: Mapping[str, int]) -> str:
    return " · ".join(f"{printable(name)} {count:,}" for name, count in counts.items() if count)


def _reasons(counts: Mapping[str, int], none: str, some: str) -> str:
    if not counts:
        return none
    named = [f"{printable(reason)} {count:,}" for reason, count in list(counts.items())[:LISTED_REASONS]]
    others = list(counts.values())[LISTED_REASONS:]
    return f"{some} {', '.join([*named, f'others {sum(others):,}'] if others else named)}"


def _line(label: str, text: Text, *, style: str = "bold") -> Table:
    line = Table(box=None, show_header=False, padding=0, pad_edge=False)
    line.add_column(width=LABEL)
    line.add_column(overflow="fold")
    line.add_row(Text(label, style=style), text)
    return line
