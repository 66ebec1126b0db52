"""What `graphnode status` shows of a status."""

from __future__ import annotations

import io
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from rich.console import Console

from graphnode.cli.status_screen import length, screen
from graphnode.operations.outages import ReportedOutage
from graphnode.operations.status.next_steps import next_steps
from graphnode.operations.status.sources import Activity, QueueState, Status
from graphnode.storage.activity import EndedTasks, OpenTasks, Throughput, WaitingNotifications
from graphnode.storage.workers import WorkerProcess
from graphnode.text import escaped

NOW = datetime(2026, 11, 25, 4, 20, tzinfo=UTC)


def ago(**length: float) -> datetime:
    return NOW - timedelta(**length)


def worker(number: int, **changes: Any) -> WorkerProcess:
    known: dict[str, Any] = {
        "host": f"ip-10-0-{number}-217.eu-central-1.compute.internal",
        "pid": 12_000 + number,
        "version": "0.1.0",
        "threads": 16,
        "started_at": ago(days=3),
        "seen_at": ago(seconds=12),
        "is_late": False,
        "in_hand": 12,
        "running": 4,
        "outage_service": None,
        "outage_since": None,
        "outage_error": None,
        "outage_advice": None,
        "handled": 1_234_567,
        "retried": 12_345,
        "dead": 321,
    }
    return WorkerProcess(**{**known, **changes})


ACTIVITY = Activity(
    at=NOW,
    open_tasks=[OpenTasks("PENDING", 12_345, ago(hours=1)), OpenTasks("PROGRESS", 1_234, ago(minutes=5))],
    ended=EndedTasks({"COMPLETED": 12_345_678, "FAILED": 123_456, "SUPERSEDED": 12_345}, False),
    throughput=Throughput(120, 590, 7_012, 17, None),
    retrying=42,
    failed_attempts={"OBJECT_NOT_FOUND": 1_203, "DATABASE_CONFLICT": 42, "SERVICE_BUSY": 9, "TIME_LIMIT": 3},
    given_up={"INVALID_DOCUMENT": 5, "UNKNOWN_TASK_TYPE": 1},
    notifications=WaitingNotifications(1_234, 3, ago(minutes=7)),
    workers=[worker(number) for number in range(9)],
    outages=[],
)

STATUS = Status(
    at=NOW,
    queues=[
        QueueState(name="results", waiting=123_456, delayed=0, in_flight=1_234, dead_letters=12, oldest_s=3_725),
        QueueState(name="notifications", waiting=1, delayed=0, in_flight=0, oldest_s=90, oldest_from="database"),
        QueueState(name="requests", waiting=0, delayed=0, in_flight=0),
    ],
    activity=ACTIVITY,
    unseen=["Oldest messages, by CloudWatch: AWS_ENDPOINT_URL is set"],
)


def outage(**changes: Any) -> ReportedOutage:
    known: dict[str, Any] = {
        "service": "PostgreSQL",
        "since": ago(minutes=4),
        "processes": 1,
        "error": "connection refused",
        "advice": "Start PostgreSQL.",
    }
    return ReportedOutage(**{**known, **changes})


def with_outages(*outages: ReportedOutage) -> Status:
    """The status during these outages."""
    return msgspec.structs.replace(STATUS, activity=msgspec.structs.replace(ACTIVITY, outages=list(outages)))


def shown(status: Status, *, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(screen(status))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return [line.rstrip() for line in text.splitlines()]


class TestScreen:
    def test_a_busy_deployment_fits_on_one_screen(self) -> None:
        lines = shown(STATUS)

        assert max(map(len, lines)) <= 80
        assert len(lines) <= 32
        assert not [line for line in lines if "…" in line]

    def test_every_count_is_there(self) -> None:
        text = " ".join(" ".join(shown(STATUS)).split())

        for part in (
            "results 123,456 1,234 0 1 h 12",
            "notifications 1 0 0 ≤ 1.5 min -",
            "PENDING 12,345 · PROGRESS 1,234 · one without news for 1 h",
            "about COMPLETED 12,345,678 · FAILED 123,456 · SUPERSEDED 12,345",
            "120 in the last · 118 over 5 · 117 over 60 · 17 failed",
            "OBJECT_NOT_FOUND 1,203, DATABASE_CONFLICT 42, SERVICE_BUSY 9, others 3",
            "in the last 24 hours: INVALID_DOCUMENT 5, UNKNOWN_TASK_TYPE 1",
            "1,234 open · 3 due · the oldest for 7 min",
            "9 processes, 144 threads",
            "ip-10-0-0-217 12000 4/16 12 1.2 M 12.3 k 321 12 s",
            "and 3 more",
        ):
            assert part in text

    def test_an_outage_is_shown_with_its_length_its_error_and_what_mends_it(self) -> None:
        lines = shown(with_outages(outage(processes=2)))

        place = lines.index("Outages        PostgreSQL for 4 min (2 processes): connection refused")
        assert lines[place + 1] == f"{'':15}mend: Start PostgreSQL."

    def test_an_outage_that_a_previous_release_reports_has_neither_error_nor_remedy(self) -> None:
        lines = shown(with_outages(outage(error="", advice="")))

        place = lines.index("Outages        PostgreSQL for 4 min (1 process)")
        assert lines[place + 1] == ""

    def test_of_many_outages_the_first_are_listed_and_the_others_counted(self) -> None:
        lines = shown(with_outages(*(outage(service=f"S{number}") for number in range(5))))

        assert [line.split()[0] for line in lines if "connection refused" in line] == ["Outages", "S1", "S2"]
        assert f"{'':15}and 2 more" in lines

    @pytest.mark.parametrize("width", [80, 50])
    def test_a_narrow_terminal_gets_fewer_columns_and_whole_counts(self, width: int) -> None:
        lines = shown(with_outages(outage(error="connection refused by the server at 10.0.0.1 " * 3)), width=width)

        assert max(map(len, lines)) <= width
        assert not [line for line in lines if "…" in line]
        (results,) = [line.split() for line in lines if line.startswith("  results")]
        assert (results[1], results[-1]) == ("123,456", "12")
        (worker,) = [line for line in lines if line.startswith("  ip-10-0-1-217")]
        assert worker.endswith("321  12 s")

    @pytest.mark.parametrize("width", range(40, 121))
    def test_no_width_cuts_a_number(self, width: int) -> None:
        numbers = re.compile(r"\d[\d,./:]*")
        lines = shown(STATUS, width=width)

        assert max(map(len, lines)) <= width
        there = Counter(numbers.findall(" ".join(lines)))
        for queue in STATUS.queues:
            for count in filter(None, (queue.waiting, queue.dead_letters)):
                assert there[f"{count:,}"], lines
        assert set(there) <= set(numbers.findall(" ".join(shown(STATUS, width=200)))), lines

    def test_a_queue_without_numbers_is_in_the_table_with_the_reason(self) -> None:
        gone = QueueState(name="results", problem="does not exist")

        lines = shown(msgspec.structs.replace(STATUS, queues=[gone, *STATUS.queues[1:]]))

        place = next(number for number, line in enumerate(lines) if line.startswith("  results"))
        assert set(lines[place].split()[1:]) == {"-"}
        assert lines[place + 1] == "    does not exist"

    @pytest.mark.parametrize(
        ("dead_letters", "expected"),
        [
            (304, "304 dead letters now: 298 older, or not from a worker"),
            (1, "1 dead letter now: the others are redriven or deleted, or being read"),
            (6, ""),
        ],
    )
    def test_dead_letters_that_are_not_given_up_today_are_explained(self, dead_letters: int, expected: str) -> None:
        queues = [msgspec.structs.replace(STATUS.queues[0], dead_letters=dead_letters)]

        text = " ".join(" ".join(shown(msgspec.structs.replace(STATUS, queues=queues))).split())

        explained = text.partition("UNKNOWN_TASK_TYPE 1")[2].partition("Pushes")[0]
        assert explained.strip() == expected

    def test_counts_of_failures_that_reached_their_bound_are_a_minimum_and_compared_with_nothing(self) -> None:
        seen = msgspec.structs.replace(ACTIVITY, failures_are_exact=False)

        text = " ".join(" ".join(shown(msgspec.structs.replace(STATUS, activity=seen))).split())

        assert "in the last hour at least: OBJECT_NOT_FOUND" in text
        assert "in the last 24 hours at least: INVALID_DOCUMENT 5" in text
        assert "dead letters now" not in text

    def test_what_to_type_next_is_said_and_nothing_if_all_is_well(self) -> None:
        well = msgspec.structs.replace(STATUS, queues=[QueueState(name="results", waiting=1, delayed=0, in_flight=0)])
        unseen = msgspec.structs.replace(STATUS, activity=None)
        without_workers = msgspec.structs.replace(well, activity=msgspec.structs.replace(ACTIVITY, workers=[]))

        commands = [
            [step.command for step in next_steps(status)]
            for status in (well, STATUS, unseen, with_outages(outage()), without_workers)
        ]

        assert commands == [
            [],
            ["graphnode dlq list"],
            ["graphnode doctor", "graphnode dlq list"],
            ["graphnode doctor", "graphnode dlq list"],
            ["graphnode worker"],
        ]
        assert not any(line.startswith("Next") for line in shown(well))
        assert any(line.startswith("Next           graphnode dlq list") for line in shown(STATUS))

    def test_what_is_awaited_is_named_and_not_taken_for_a_fault(self) -> None:
        early = Status(at=NOW, queues=[], activity=None, unseen=[], awaited=["PostgreSQL", "SQS"])

        lines = shown(early)

        assert "Waiting        for PostgreSQL and SQS" in lines
        assert list(next_steps(early)) == []

    def test_a_late_process_stands_first_and_is_not_counted(self) -> None:
        late = worker(9, host="zulu", seen_at=ago(minutes=20), is_late=True)
        seen = msgspec.structs.replace(ACTIVITY, workers=[worker(1), late])

        lines = shown(msgspec.structs.replace(STATUS, activity=seen))

        (number,) = [number for number, line in enumerate(lines) if line.startswith("Workers")]
        assert lines[number] == "Workers        1 process, 16 threads · 1 late"
        assert lines[number + 2].startswith("  zulu")
        assert lines[number + 2].endswith("late 20 min")

    def test_a_terminal_gets_no_control_characters(self) -> None:
        name = "x\x1b[2J\x9b31m\u202e"
        activity = msgspec.structs.replace(
            ACTIVITY,
            failed_attempts={name: 1},
            given_up={name: 1},
            ended=EndedTasks({name: 1}, True),
            open_tasks=[OpenTasks(name, 1, ago(hours=1))],
            workers=[worker(1, host=name, version=name), worker(2)],
            outages=[outage(service=name, error=name, advice=name)],
        )

        text = "\n".join(shown(msgspec.structs.replace(STATUS, activity=activity, unseen=[name])))

        assert text.count(r"x\x1b[2J\x9b31m\u202e") >= 8
        assert escaped(text, but="\n") == text

    def test_missing_workers_are_reported(self) -> None:
        lines = shown(msgspec.structs.replace(STATUS, activity=msgspec.structs.replace(ACTIVITY, workers=[])))

        assert "Workers        none seen in the last hour" in lines

    def test_a_count_that_reached_its_bound_is_a_rate_over_what_was_counted(self) -> None:
        ended = Throughput(40_000, 100_000, 100_000, 0, ago(minutes=2.5))

        lines = shown(msgspec.structs.replace(STATUS, activity=msgspec.structs.replace(ACTIVITY, throughput=ended)))

        assert "Ended a minute 40,000 over the last 2.5 minutes, at least" in lines

    @pytest.mark.parametrize(
        ("seconds", "expected"),
        [
            (-1, "0 s"),
            (0.4, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (90, "1.5 min"),
            (119, "1.9 min"),
            (3_600, "1 h"),
            (200_000, "2.3 d"),
        ],
    )
    def test_a_length_of_time_is_in_its_largest_unit(self, seconds: float, expected: str) -> None:
        assert length(seconds) == expected
