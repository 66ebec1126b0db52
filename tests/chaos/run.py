"""One run: traffic and faults at the same time, then a drain without faults, then the comparison with the model."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from graphnode.dev import outcomes
from graphnode.dev.local_aws import dead_letter_url
from tests.chaos import journal, report
from tests.chaos.checker import Found, Letter, Notified, Verdict, check
from tests.chaos.faults import injected
from tests.chaos.model.tables import faults as inconsistencies
from tests.chaos.model.tables import read_tables
from tests.chaos.report import InjectedFault
from tests.chaos.schedule import BEFORE_S, KINDS, LANES, Fault, draw_schedule, lone_fault
from tests.chaos.sender import Sender
from tests.chaos.stack import Stack, running_stack
from tests.chaos.traffic import Traffic, draw_traffic

#: Seconds between two lines of progress.
TELL_S = 5.0

#: Seconds without any work left until the run ends.
QUIET_S = 1.0

#: Lets the leases of claimed pushes expire now.
EXPIRE_LEASES = """
UPDATE notifications SET due_at = now(), retry_at = now(), claimed_at = claimed_at - interval '1 hour'
WHERE due_at IS NOT NULL
"""

NOTIFIED = "SELECT id, user_id, push_status FROM notifications"

Tell = Callable[[str], None]


class Profile(NamedTuple):
    """The size of a run.

    Parameters:
      results: the least number of different results.
      chaos_s: seconds of traffic and faults.
      drain_s: the longest time of the drain in seconds.
      shorten: the factor for the longest duration of each fault.
      workers: the number of `dramatiq` commands.
      processes, threads: of each command.
      hurries: whether the leases of pushes expire at once in the drain, and messages are tried again soon.
      fault: the only kind of fault, which occurs once and lasts until all is sent. None: all kinds.
    """

    results: int
    chaos_s: float
    drain_s: float
    shorten: float = 1.0
    workers: int = 3
    processes: int = 2
    threads: int = 4
    hurries: bool = False
    fault: str | None = None

    def schedule(self, seed: int) -> list[Fault]:
        """The faults of the run."""
        if self.fault:
            return lone_fault(self.fault, seconds=self.chaos_s)
        return draw_schedule(seed, seconds=self.chaos_s, shorten=self.shorten)


#: The profile of `make test`.
SHORT = Profile(results=250, chaos_s=70, drain_s=150, shorten=0.1, processes=1, hurries=True)

#: Back-offs that fit into the drain of a short run.
SOON = {"GRAPHNODE_BACKOFF_MIN": "1", "GRAPHNODE_BACKOFF_MAX": "20"}


def profile_of(minutes: float, *, fault: str | None = None) -> Profile:
    """The profile of a run of this length. The last 2.5 minutes are for the drain, in which the sweeps finish.

    Parameters:
      fault: inject only this one, for so many minutes.
    """
    chaos_s = minutes * 60 + BEFORE_S if fault else max(30.0, minutes * 60 - 150)
    return Profile(results=max(200, round(chaos_s * 4.7)), chaos_s=chaos_s, drain_s=300, fault=fault)


class Outcome(NamedTuple):
    """The outcome of a run.

    Parameters:
      line: the last line, JSON.
      folder: its state and logs; None if nothing is wrong.
    """

    verdict: Verdict
    line: str
    folder: Path | None


def run(profile: Profile, *, seed: int, tell: Tell) -> Outcome:
    """Run traffic and faults, and compare the result with the contract.

    Parameters:
      seed: of the traffic and the faults.
      tell: prints a line of progress.
    """
    traffic = draw_traffic(seed, results=profile.results)
    faults = profile.schedule(seed)
    folder = Path(tempfile.mkdtemp(prefix=f"graphnode-chaos-{seed}-"))
    with running_stack(
        folder,
        traffic,
        seed=seed,
        workers=profile.workers,
        processes=profile.processes,
        threads=profile.threads,
        **(SOON if profile.hurries else {}),
    ) as stack:
        for worker in stack.workers:
            worker.wait_until_ready()
        found, past, sent = _Run(stack, traffic, faults, profile, tell).do()
    verdict = check(traffic, found)
    line = report.last_line(verdict, found, past, sent=sent, seed=seed)
    if verdict.is_good:
        shutil.rmtree(folder, ignore_errors=True)
        return Outcome(verdict, line, None)
    _keep(folder, verdict, found, past, line)
    return Outcome(verdict, line, folder)


class _Run:
    """A run in progress."""

    def __init__(self, stack: Stack, traffic: Traffic, faults: list[Fault], profile: Profile, tell: Tell) -> None:
        self.stack, self.traffic, self.faults, self.profile, self.tell = stack, traffic, faults, profile, tell
        self.sender = Sender(stack, traffic.deliveries, seconds=profile.chaos_s)
        self.began = time.monotonic()
        self.current: dict[str, str] = {}
        self.injected: list[InjectedFault] = []
        self.errors: list[BaseException] = []
        self.queues = [stack.direct["SQS_RESULT_QUEUE_URL"]]
        self.waiting = 0

    def do(self) -> tuple[Found, list[InjectedFault], int]:
        """Run it; the state afterwards, the injected faults, and the number of messages sent."""
        self.sender.start()
        lanes = [threading.Thread(target=self._lane, args=(lane,), daemon=True) for lane in LANES]
        for lane in lanes:
            lane.start()
        while any(lane.is_alive() for lane in lanes):
            self._tell_progress()
            time.sleep(TELL_S)
        if self.errors:
            raise self.errors[0]
        left = self._drain()
        self.sender.stop()
        return self._found(left), self.injected, self.sender.sent

    def _elapsed(self) -> float:
        return time.monotonic() - self.began

    def _lane(self, lane: str) -> None:
        try:
            for fault in self.faults:
                if KINDS[fault.kind].lane == lane:
                    time.sleep(max(0.0, fault.at_s - self._elapsed()))
                    # On a slow machine there may be no time left for the last faults.
                    if self._elapsed() < self.profile.chaos_s:
                        self._inject(lane, fault)
        except BaseException as error:  # raised again by the thread that waits for this one
            self.errors.append(error)

    def _inject(self, lane: str, fault: Fault) -> None:
        self.current[lane] = fault.kind
        begin = datetime.now(UTC)
        with injected(self.stack, fault):
            time.sleep(fault.lasts_s)
        self.injected.append(InjectedFault(fault.kind, begin, datetime.now(UTC)))
        del self.current[lane]

    def _tell_progress(self) -> None:
        if "LocalStack paused" not in self.current.values():
            self.waiting = self._count_waiting()
        fault = ", ".join(self.current.values()) or "no fault"
        self.tell(f"{self._elapsed():5.0f} s  sent {self.sender.sent:5d}  waiting {self.waiting:4d}  {fault}")

    def _count_waiting(self) -> int:
        """The messages on the queues: visible, in flight or delayed."""
        try:
            return sum(
                int(count)
                for url in self.queues
                for count in self.stack.sqs.get_queue_attributes(
                    QueueUrl=url,
                    AttributeNames=[
                        "ApproximateNumberOfMessages",
                        "ApproximateNumberOfMessagesNotVisible",
                        "ApproximateNumberOfMessagesDelayed",
                    ],
                )["Attributes"].values()
            )
        except (BotoCoreError, ClientError):
            return self.waiting

    def _drain(self) -> int:
        """Wait until no work is left; the messages that are left if that takes too long."""
        deadline = time.monotonic() + self.profile.drain_s
        quiet_since, told_at = None, float("-inf")
        while time.monotonic() < deadline:
            self.waiting = self._count_waiting()
            pushes = self._open_pushes()
            if time.monotonic() - told_at > TELL_S:
                self.tell(
                    f"{self._elapsed():5.0f} s  sent {self.sender.sent:5d}  waiting {self.waiting:4d}  "
                    f"draining, {pushes} pushes open"
                )
                told_at = time.monotonic()
            if not self.sender.is_done or self.waiting or pushes:
                if self.profile.hurries and self.sender.is_done and not self.waiting:
                    self.stack.execute(EXPIRE_LEASES)
                quiet_since = None
            elif quiet_since is None:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > QUIET_S:
                return 0
            time.sleep(0.5)
        return self.waiting

    def _open_pushes(self) -> int:
        with self.stack.database() as database, database.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM notifications WHERE due_at IS NOT NULL")
            (count,) = cursor.fetchone() or (0,)
            return int(count)

    def _found(self, left: int) -> Found:
        letters = [
            Letter(letter.body, letter.attributes.get("reason", "none: SQS moved it"))
            for url in self.queues
            for letter in outcomes.dead_letters(self.stack.sqs, dead_letter_url(self.stack.sqs, url))
        ]
        with self.stack.database() as database, database.cursor() as cursor:

            def execute(query: str) -> list[tuple[object, ...]]:
                cursor.execute(query)
                return cursor.fetchall()

            cursor.execute("SET timezone = 'UTC'")
            return Found(
                tables=read_tables(execute),
                inconsistent=inconsistencies(execute),
                effects=journal.read_effects(database),
                pushes=journal.read_pushes(database),
                notified=[Notified(*map(str, row)) for row in execute(NOTIFIED)],
                devices=frozenset(str(token) for (token,) in execute("SELECT token FROM device_tokens")),
                takes=list(self.stack.fcm.takes),
                letters=letters,
                attempts=journal.read_attempts(database),
                left=left,
            )


def _keep(folder: Path, verdict: Verdict, found: Found, past: list[InjectedFault], line: str) -> None:
    """Write the state of a failed run into its folder, beside the workers' logs and PostgreSQL's data."""
    (folder / "differences.txt").write_text("\n".join(verdict.lines) + "\n", encoding="utf-8")
    (folder / "effects.txt").write_text("".join(f"{effect}\n" for effect in found.effects), encoding="utf-8")
    (folder / "pushes.txt").write_text(
        "".join(f"{name} {step}\n" for name, steps in found.pushes.items() for step in steps), encoding="utf-8"
    )
    (folder / "faults.txt").write_text(
        "".join(f"{fault.begin} {fault.end} {fault.kind}\n" for fault in sorted(past, key=lambda one: one.begin)),
        encoding="utf-8",
    )
    letters = [letter._asdict() for letter in found.letters]
    (folder / "dead-letters.json").write_text(json.dumps(letters, indent=1, ensure_ascii=False), encoding="utf-8")
    (folder / "last-line.json").write_text(line + "\n", encoding="utf-8")
