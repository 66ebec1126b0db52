"""A deployment in which one process at a time is killed, and the findings afterwards."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.fcm_stub import FcmServer
from graphnode.contract.envelopes import RESULT_QUEUE
from graphnode.dev import outcomes
from graphnode.dev.local_aws import s3_client, sqs_client
from tests.e2e.ai_server import AiServer
from tests.e2e.kill_points.scenarios import Scenario
from tests.e2e.kill_points.victim import PUSHES, Point, Victim

#: The visibility timeout in seconds.
VISIBILITY_S = 3

#: Seconds after the visibility timeout within which a ready process must receive the message, on a busy machine too.
LENIENCE_S = 5.0

#: The longest wait for a condition, in seconds. Many processes start at the same time.
PATIENCE_S = 120.0

#: Seconds between two checks of a condition.
LOOK_S = 0.3

SETTINGS = {
    "GRAPHNODE_VISIBILITY_TIMEOUT": str(VISIBILITY_S),
    "GRAPHNODE_POLL_WAIT": "1",
    "GRAPHNODE_BACKOFF_MIN": "0.1",
    "GRAPHNODE_BACKOFF_MAX": "1",
    "GRAPHNODE_SWEEP_INTERVAL": "0.5",
}

#: Ends the claims of the killed process, as if five minutes had passed.
PASS_TIME = (
    "UPDATE notifications SET due_at = due_at - interval '5 minutes', retry_at = retry_at - interval '5 minutes'"
    " WHERE user_id = %s AND claimed_at < %s"
)

#: Columns that depend on the number of deliveries.
ATTEMPTS = frozenset({"attempt", "attempts", "push_attempts"})

#: An ID that the worker generated.
MADE_HERE = re.compile(r"\b01[0-9A-HJKMNP-TV-Z]{24}\b")

#: An ID in a microscope view, made of its document's ID, which names the user.
MADE_OF_DOCUMENT = re.compile(r"\b(node|block|edge)_[0-9a-f]{20}\b")

_numbers = count()


class Undisturbed(NamedTuple):
    """The result of a scenario without a kill.

    Parameters:
      points: the points that the scenario's queue or thread passes, in order.
      passed: all steps that any queue or thread passes.
      rows: the stored rows, by table.
      pushes: how often FCM accepted each notification.
      dead_letters: the number of dead letters.
    """

    points: list[Point]
    passed: set[str]
    rows: dict[str, list[str]]
    pushes: list[int]
    dead_letters: int


class Finding(NamedTuple):
    """The result of a scenario with a kill.

    Parameters:
      ready_after_s: seconds from the kill until the next process is ready.
      back_after_s: seconds from the kill until it receives the message. None: the message is not delivered again.
      pushes: how often FCM accepted each notification.
      faults: the differences from what must be.
    """

    scenario: str
    point: Point
    ready_after_s: float | None
    back_after_s: float | None
    pushes: list[int]
    faults: list[str]


class Slot:
    """A deployment, and its one worker process.

    Parameters:
      environment: its queues, its bucket and its database.
      fcm: receives the pushes.
      log: the log file of its processes.
    """

    def __init__(self, environment: dict[str, str], fcm: FcmServer, log: Path) -> None:
        self.ai = AiServer(environment, sqs_client(environment), s3_client(environment))
        self.fcm = fcm
        self.log = log
        self._environment = {**environment, **fcm.environment, **SETTINGS}
        self._queues = self.ai.all_queues()
        self._letters = 0
        self._process: Victim | None = None
        self._began = datetime.now(UTC)

    def watch(self, scenario: Scenario) -> Undisturbed:
        """Run a scenario without a kill."""
        process = self._at_rest(None)
        result, user_id = self._prepare(scenario)
        with scenario.obstacle(self.ai, result):
            if scenario.until:
                self._wait(lambda: scenario.until in process.passed(), f"{scenario.name}: {scenario.until}")
        self._wait(lambda: self._is_over(user_id), f"{scenario.name} to be over")
        process.listen(timeout_s=0)
        everything = list(process.passed())
        points = [point for point in everything if point.way == scenario.way]
        if scenario.until:
            points = points[: points.index(scenario.until) + 1]
        # The later polls belong to no message, nor does a connection: a thread makes it once.
        points = [point for point in points if point.step != "receive" or point.number == 1]
        points = [point for point in points if point.step != "connect"]
        return Undisturbed(
            points,
            {point.step for point in everything},
            self._rows(user_id),
            self._pushes(user_id),
            self._new_letters(),
        )

    def kill(self, scenario: Scenario, point: Point, expected: Undisturbed) -> Finding:
        """Run a scenario, kill the process at a point, and have the next process finish."""
        process = self._at_rest(point)
        result, user_id = self._prepare(scenario)
        with scenario.obstacle(self.ai, result):
            self._wait(lambda: process.killed_at() is not None, f"{scenario.name}: kill {point}")
        killed_at = process.killed_at()
        assert killed_at is not None
        before = process.passed()
        process.end()
        ended_at = datetime.now(UTC)
        self._process = successor = self._new_process()
        self._wait(lambda: successor.ready_at is not None, f"{scenario.name}: ready after {point}")
        time_has_passed = False
        way = RESULT_QUEUE
        deletion = Point(way, "delete", "after", 1)
        # Pushes are beside the message, which may be deleted by then, or just being deleted.
        may_be_deleted = scenario.way == PUSHES and Point(way, "delete", "before", 1) in before
        is_to_come = point != deletion and not may_be_deleted

        def is_over() -> bool:
            nonlocal time_has_passed
            # SQS's counts are approximate: a message that just becomes visible may be missing in all of them.
            if (is_to_come and deletion not in successor.passed()) or not self._are_empty():
                return False
            if self._are_told(user_id):
                return True
            if not time_has_passed:
                self.ai.execute(PASS_TIME, user_id, ended_at)
                time_has_passed = True
            return False

        faults = []
        try:
            self._wait(is_over, f"{scenario.name}: over after {point}")
        except TimeoutError as error:
            faults.append(str(error))
        successor.listen(timeout_s=0)
        back_at = successor.passed().get(Point(way, "receive", "after", 1))
        rows, pushes, letters = self._rows(user_id), self._pushes(user_id), self._new_letters()

        # A push may be repeated if the kill came after FCM accepted it and before its row was updated.
        asked = Point(PUSHES, "push", "before", 1) in before
        settled = Point(PUSHES, "settle", "after", 1) in before or str(point) == "after settle"
        repeated = asked and not settled
        most = [times + repeated for times in expected.pushes]
        if not all(low <= times <= high for low, times, high in zip(expected.pushes, pushes, most, strict=False)):
            faults.append(f"pushes: {pushes}, expected {expected.pushes}")
        if len(pushes) != len(expected.pushes):
            faults.append(f"{len(pushes)} notifications pushed, expected {len(expected.pushes)}")
        if scenario.until and not rows["task_attempts"]:
            # The kill came before the failure was recorded, and the next process had no failure.
            rows["task_attempts"] = expected.rows["task_attempts"]
        faults += differences(rows, expected.rows)
        most_letters = expected.dead_letters
        # If the kill came between sending the dead letter and recording it, the letter is sent twice. The thread that
        # sends it may have begun at any point.
        has_begun = Point(way, "dead_letter", "before", 1) in before
        is_recorded = Point(way, "failure", "after", 1) in before or str(point) == "after failure"
        if expected.dead_letters and has_begun and not is_recorded:
            most_letters += 1
        least_letters = most_letters if str(point) == "after dead_letter" else expected.dead_letters
        if not least_letters <= letters <= most_letters:
            faults.append(f"dead letters: {letters}, expected {expected.dead_letters}")
        if may_be_deleted:
            pass
        elif point.step == "delete" and point.edge == "after":
            if back_at is not None:
                faults.append("delivered again after its deletion")
        elif back_at is None:
            faults.append("not delivered again")
        elif back_at > max(killed_at + VISIBILITY_S, successor.ready_at or 0) + LENIENCE_S:
            faults.append("not back within the visibility timeout")
        if self.ai.rows("SELECT * FROM task_attempts WHERE message_id IS NOT NULL AND NOT given_up"):
            faults.append("failures are still counted")
        return Finding(
            scenario.name,
            point,
            ready_after_s=None if successor.ready_at is None else successor.ready_at - killed_at,
            back_after_s=None if back_at is None else back_at - killed_at,
            pushes=pushes,
            faults=faults,
        )

    def close(self) -> None:
        """End its process."""
        if self._process:
            self._process.end()

    def _new_process(self) -> Victim:
        return Victim(self._environment, self.log)

    def _at_rest(self, target: Point | None) -> Victim:
        """An idle process that will kill itself at this point."""
        if self._process is None or not self._process.is_running():
            self._process = self._new_process()
        process = self._process
        self._wait(lambda: process.ready_at is not None, "a process to be ready")
        process.arm(target)
        self._wait(process.is_armed, "a process to be armed")
        return process

    def _prepare(self, scenario: Scenario) -> tuple[Any, str]:
        user_id = f"user{next(_numbers):05}"
        self.ai.execute("INSERT INTO device_tokens (token, user_id) VALUES (%s, %s)", f"phone of {user_id}", user_id)
        scenario.prepare(self.ai, user_id)
        return scenario.result(self.ai, user_id), user_id

    def _wait(self, is_so: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {PATIENCE_S:.0f} s for {what}")
            process = self._process
            assert process is not None
            was_running = process.is_running()
            # Read the reports of an ended process too: the last ones may fulfil the condition.
            process.listen(timeout_s=LOOK_S)
            if not was_running and not is_so():
                raise RuntimeError(f"the process ended during the wait for {what}: {self.log.read_text()[-3000:]}")

    def _is_over(self, user_id: str) -> bool:
        return self._are_empty() and self._are_told(user_id)

    def _are_empty(self) -> bool:
        """Whether the result queue is empty."""
        return outcomes.is_empty(self.ai.sqs, self.ai.result_queue)

    def _are_told(self, user_id: str) -> bool:
        query = "SELECT 1 FROM notifications WHERE user_id = %(user_id)s AND due_at IS NOT NULL"
        return not self.ai.rows(query, user_id=user_id)

    def _pushes(self, user_id: str) -> list[int]:
        taken = self.fcm.times_taken()
        query = "SELECT id FROM notifications WHERE user_id = %(user_id)s ORDER BY id"
        return [taken[one] for (one,) in self.ai.rows(query, user_id=user_id)]

    def _new_letters(self) -> int:
        """The number of new dead letters since the last call."""
        name = "ApproximateNumberOfMessages"
        before, self._letters = self._letters, 0
        for url in self._queues[1:]:
            answer = self.ai.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])  # type: ignore[list-item]
            self._letters += int(answer["Attributes"][name])  # type: ignore[index]
        return self._letters - before

    def _rows(self, user_id: str) -> dict[str, list[str]]:
        """The user's rows of every table, without user names, times and generated IDs."""
        found = {}
        tables = self.ai.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for (table,) in tables:
            query = f"SELECT to_jsonb(t) FROM {table} AS t WHERE t::text LIKE %(like)s"  # noqa: S608
            rows = self.ai.rows(query, like=f"%{user_id}%")
            written = sorted(self._written(table, row, user_id) for (row,) in rows)
            # The kill may have repeated a failure.
            found[table] = sorted(set(written)) if table == "task_attempts" else written
        return found

    def _written(self, table: str, row: dict[str, Any], user_id: str) -> str:
        known = {name: self._lasting(value) for name, value in row.items() if name not in ATTEMPTS}
        if table == "task_attempts":
            known.pop("id")
            known.pop("message_id")
        written = json.dumps(known, sort_keys=True).replace(user_id, "USER").replace(self.ai.bucket, "BUCKET")
        return MADE_OF_DOCUMENT.sub(r"\1_ID", MADE_HERE.sub("ULID", written))

    def _lasting(self, value: Any) -> Any:
        """The value, with `now` for each time after the run began."""
        if isinstance(value, dict):
            return {name: self._lasting(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._lasting(inner) for inner in value]
        if isinstance(value, str):
            with suppress(ValueError):
                at = datetime.fromisoformat(value)
                if at.tzinfo and at >= self._began:
                    return "now"
        return value


def between_steps(points: list[Point]) -> list[Point]:
    """One point between any two steps: the first one, and the end of each step."""
    return [point for index, point in enumerate(points) if index == 0 or point.edge == "after"]


def differences(found: dict[str, list[str]], expected: dict[str, list[str]]) -> list[str]:
    """A line for each unexpected row, each missing row and each wrong count."""
    lines = []
    for table in sorted(found.keys() | expected.keys()):
        got, wanted = found.get(table, []), expected.get(table, [])
        lines += [f"{table}: not expected: {row}" for row in got if row not in wanted]
        lines += [f"{table}: missing: {row}" for row in wanted if row not in got]
        if len(got) != len(wanted):
            lines.append(f"{table}: {len(got)} rows, expected {len(wanted)}")
    return lines
