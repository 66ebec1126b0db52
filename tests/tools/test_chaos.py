"""`python -m tests.chaos`: its checker finds each kind of difference, and its traffic and faults follow the seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.checker import Found, Letter, Notified, Take, Verdict, check
from tests.chaos.faults import INJECTIONS
from tests.chaos.journal import Attempt, Effect, PushStep
from tests.chaos.model import contract
from tests.chaos.model.state import Message, Notification, State, Summary
from tests.chaos.report import WRONG, InjectedFault, last_line, recoveries_s
from tests.chaos.run import SHORT, profile_of
from tests.chaos.schedule import KINDS, draw_schedule
from tests.chaos.seeds import Kept, keep_seed, read_seeds
from tests.chaos.traffic import DURING_THE_RUN, Delivery, Traffic, draw_traffic

NOON = datetime(2026, 5, 24, 12, tzinfo=UTC)

POISON = '{"taskType": "GRAPH'


def delivery(number: int, task_type: str, payload: dict[str, Any], documents: dict[str, Any]) -> Delivery:
    """A result of Ada, sent `number` minutes after NOON."""
    at = NOON + timedelta(minutes=number)
    body = {
        "taskType": task_type,
        "taskId": f"task-{number}",
        "timestamp": at.isoformat(),
        "payload": {"userId": "ada", **payload},
    }
    return Delivery(number, json.dumps(body), "ada", message=Message(body, at, documents))


def summary(number: int) -> Delivery:
    document = {"overview": {"summary_text": f"number {number}"}, "detail_level": "brief"}
    payload = {"status": "COMPLETED", "summaryS3Key": f"s/{number}"}
    return delivery(number, "GRAPH_SUMMARY_RESULT", payload, {f"s/{number}": document})


def failure(number: int) -> Delivery:
    return delivery(number, "ADD_NODE_RESULT", {"status": "FAILED", "error": "Too long"}, {})


#: Two summaries, of which the later one may be handled first, a failure, and a poison message.
DELIVERIES = [summary(1), summary(2), failure(3), Delivery(4, POISON, "ada", reason="INVALID_ENVELOPE")]
TRAFFIC = Traffic(DELIVERIES, ["ada"], {"ada": ["device-1", "gone-1"]}, [], [])


def left_behind(*order: int) -> Found:
    """The state after a correct worker has handled the deliveries in this order."""
    state, effects = State(), []
    for place, number in enumerate(order):
        message = DELIVERIES[number - 1].message
        assert message
        state = contract.after(state, message, attempt=1)
        task_type = message.body["taskType"]
        task = state.tasks[f"task-{number}", task_type]
        effects.append(Effect(NOON + timedelta(seconds=place), "ada", task.task_id, task_type, task.status, None))
    tables = state.tables()
    rows = [row._replace(push_status="SENT") for row in state.notifications.values()]
    tables["notifications"] = list(rows)
    ids = [f"n{place}" for place, _ in enumerate(rows)]
    return Found(
        tables=tables,
        inconsistent={},
        effects=effects,
        pushes={name: [PushStep(NOON, 1, False), PushStep(NOON + timedelta(seconds=9), 1, True)] for name in ids},
        notified=[Notified(name, "ada", "SENT") for name in ids],
        devices=frozenset({"device-1"}),
        takes=[Take(name, "device-1", NOON + timedelta(seconds=1)) for name in ids],
        letters=[Letter(POISON, "INVALID_ENVELOPE")],
    )


def with_rows(found: Found, table: str, change: Callable[[list[Any]], list[Any]]) -> Found:
    """The same state with one changed table."""
    return found._replace(tables={**found.tables, table: change(list(found.tables[table]))})


def wrong(verdict: Verdict) -> dict[str, int]:
    return dict(verdict.counts)


@pytest.fixture
def found() -> Found:
    return left_behind(1, 2, 3)


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
def test_nothing_is_wrong_with_what_the_contract_says_in_whichever_order(order: tuple[int, ...]) -> None:
    verdict = check(TRAFFIC, left_behind(*order))
    assert verdict.is_good, verdict.lines


def test_an_order_that_does_not_explain_the_tables_is_seen(found: Found) -> None:
    """This happens if two transactions of a user overlap, because the lock is missing."""
    assert wrong(check(TRAFFIC, found._replace(effects=left_behind(2, 1, 3).effects)))["wrong_rows"]


@pytest.mark.parametrize("table", ["tasks", "graph_summaries", "graphs"])
def test_a_lost_row_is_seen(found: Found, table: str) -> None:
    assert wrong(check(TRAFFIC, with_rows(found, table, lambda rows: rows[1:]))) == {"wrong_rows": 1}


@pytest.mark.parametrize("table", ["tasks", "graph_summaries", "graphs"])
def test_a_doubled_row_is_seen(found: Found, table: str) -> None:
    assert wrong(check(TRAFFIC, with_rows(found, table, lambda rows: [*rows, rows[0]]))) == {"wrong_rows": 1}


def test_a_status_that_no_open_task_explains_is_seen(found: Found) -> None:
    lying = with_rows(found, "graphs", lambda rows: [row._replace(status="UPDATING") for row in rows])

    assert wrong(check(TRAFFIC, lying))["wrong_rows"] == 2


@pytest.mark.parametrize(
    ("stored", "faults"), [(datetime.now(UTC), {}), (datetime(2099, 1, 1, tzinfo=UTC), {"wrong_rows": 2})]
)
def test_for_a_clock_that_is_ahead_the_stored_time_is_that_of_the_run(stored: datetime, faults: dict[str, int]) -> None:
    message = DELIVERIES[0].message
    assert message
    ahead = message._replace(body={**message.body, "timestamp": "2099-01-01T00:00:00Z"}, sent_at=DURING_THE_RUN)
    state = contract.after(State(), ahead, attempt=1)
    found = left_behind(1)
    summaries = [row._replace(source_timestamp=stored) for row in state.graph_summaries.values()]
    tables: Any = {**found.tables, "graph_summaries": summaries, "tasks": list(state.tasks.values())}
    traffic = TRAFFIC._replace(deliveries=[DELIVERIES[0]._replace(message=ahead), DELIVERIES[3]])

    assert wrong(check(traffic, found._replace(tables=tables))) == faults


def test_a_wrong_row_is_seen_as_one_too_many_and_one_too_few(found: Found) -> None:
    def change(rows: list[Summary]) -> list[Summary]:
        return [row._replace(summary_text="another") for row in rows]

    assert wrong(check(TRAFFIC, with_rows(found, "graph_summaries", change))) == {"wrong_rows": 2}


def test_a_message_without_effect_is_lost_unless_it_would_have_none() -> None:
    assert wrong(check(TRAFFIC, left_behind(1, 2))) == {"lost": 1}
    repeat = DELIVERIES[2]._replace(repeats=True)
    assert check(TRAFFIC._replace(deliveries=[*DELIVERIES, repeat]), left_behind(1, 2, 3)).is_good


def test_an_effect_that_comes_twice_is_seen(found: Found) -> None:
    assert wrong(check(TRAFFIC, found._replace(effects=[*found.effects, found.effects[0]]))) == {"applied_twice": 1}


def test_an_effect_of_nothing_that_was_sent_is_seen(found: Found) -> None:
    unknown = found.effects[0]._replace(task_id="task-99")
    assert wrong(check(TRAFFIC, found._replace(effects=[*found.effects, unknown]))) == {"wrong_rows": 1}


def test_a_notification_that_is_missing_or_there_twice_is_seen(found: Found) -> None:
    fewer = with_rows(found, "notifications", lambda rows: rows[1:])
    assert wrong(check(TRAFFIC, fewer)) == {"notifications_missing": 1}
    more = with_rows(found, "notifications", lambda rows: [*rows, rows[0]])
    assert wrong(check(TRAFFIC, more)) == {"notifications_twice": 1}


def test_a_push_that_did_not_end_is_seen(found: Found) -> None:
    def change(rows: list[Notification]) -> list[Notification]:
        return [rows[0]._replace(push_status="PENDING"), *rows[1:]]

    assert wrong(check(TRAFFIC, with_rows(found, "notifications", change))) == {"notifications_missing": 1}


def test_a_push_that_never_reached_its_device_is_seen(found: Found) -> None:
    assert wrong(check(TRAFFIC, found._replace(takes=found.takes[1:]))) == {"notifications_missing": 1}


def test_a_push_more_than_there_were_claims_is_seen(found: Found) -> None:
    assert wrong(check(TRAFFIC, found._replace(takes=[*found.takes, found.takes[0]]))) == {"notifications_twice": 1}


def test_a_push_is_repeated_for_a_claim_that_never_ended_and_not_after_it_is_done(found: Found) -> None:
    claimed_twice = [PushStep(NOON, 1, False), PushStep(NOON, 2, False), PushStep(NOON + timedelta(seconds=9), 2, True)]
    found = found._replace(pushes={**found.pushes, "n0": claimed_twice})
    again = found.takes[0]._replace(at=NOON + timedelta(seconds=5))
    assert check(TRAFFIC, found._replace(takes=[*found.takes, again])).is_good
    late = again._replace(at=NOON + timedelta(seconds=10))
    assert wrong(check(TRAFFIC, found._replace(takes=[*found.takes, late]))) == {"notifications_twice": 1}


def test_a_push_of_what_was_rolled_back_is_seen(found: Found) -> None:
    phantom = Take("n99", "device-1", NOON)
    assert wrong(check(TRAFFIC, found._replace(takes=[*found.takes, phantom]))) == {"wrong_rows": 1}


@pytest.mark.parametrize("devices", [frozenset[str](), frozenset({"device-1", "gone-1"})], ids=["good", "gone"])
def test_a_device_too_few_or_too_many_is_seen(found: Found, devices: frozenset[str]) -> None:
    assert wrong(check(TRAFFIC, found._replace(devices=devices))) == {"wrong_rows": 1}


def test_a_dead_letter_too_few_too_many_or_with_another_reason_is_seen(found: Found) -> None:
    assert wrong(check(TRAFFIC, found._replace(letters=[]))) == {"lost": 1}
    other = [Letter(POISON, "TRANSIENT")]
    assert wrong(check(TRAFFIC, found._replace(letters=other))) == {"unexpected_dead_letters": 1}
    more = [*found.letters, Letter(DELIVERIES[2].body, "TRANSIENT")]
    assert wrong(check(TRAFFIC, left_behind(1, 2)._replace(letters=more))) == {"unexpected_dead_letters": 1}


def test_an_attempt_that_is_charged_for_everybodys_error_is_seen(found: Found) -> None:
    own = Attempt("task-1", "OBJECT_NOT_FOUND", "s3://payloads/s/1 does not exist (yet)", NOON)
    assert check(TRAFFIC, found._replace(attempts=[own])).is_good
    others = own._replace(reason="SERVICE_BUSY", error="GetObject failed (SlowDown, HTTP 503): An error occurred")
    assert wrong(check(TRAFFIC, found._replace(attempts=[own, others]))) == {"wrongly_charged": 1}


def test_what_is_left_on_a_queue_is_lost_and_what_is_inconsistent_is_wrong(found: Found) -> None:
    assert wrong(check(TRAFFIC, found._replace(left=3))) == {"lost": 1}
    assert wrong(check(TRAFFIC, found._replace(inconsistent={"counts": [1]}))) == {"wrong_rows": 1}


def test_the_same_seed_gives_the_same_traffic_and_the_same_faults() -> None:
    assert draw_traffic(7, results=300) == draw_traffic(7, results=300)
    assert draw_traffic(7, results=300) != draw_traffic(8, results=300)
    assert draw_schedule(7, seconds=300) == draw_schedule(7, seconds=300)
    assert draw_schedule(7, seconds=300) != draw_schedule(8, seconds=300)


def test_a_run_of_ten_minutes_has_two_thousand_results_of_all_types_and_every_kind_of_fault() -> None:
    profile = profile_of(10)
    traffic = draw_traffic(7, results=profile.results)
    types = {one.message.body["taskType"] for one in traffic.deliveries if one.message}
    assert profile.results >= 2000
    assert len(types) == 6
    assert any(one.repeats for one in traffic.deliveries)
    assert {task.task_type for task in traffic.requests} == {"GRAPH_GENERATION_RESULT", "ADD_NODE_RESULT"}
    assert {task.task_id for task in traffic.requests} - {
        one.message.body["taskId"] for one in traffic.deliveries if one.message
    }
    assert any(one.message and one.message.sent_at == DURING_THE_RUN for one in traffic.deliveries)
    assert {fault.kind for fault in draw_schedule(7, seconds=profile.chaos_s)} == KINDS.keys() == INJECTIONS.keys()


def test_the_short_run_has_every_kind_of_fault_too() -> None:
    schedule = draw_schedule(1, seconds=SHORT.chaos_s, shorten=SHORT.shorten)
    assert {fault.kind for fault in schedule} == KINDS.keys()


def test_a_brown_out_lasts_for_minutes_and_one_fault_may_be_injected_alone() -> None:
    schedule = draw_schedule(7, seconds=profile_of(10).chaos_s)
    assert min(fault.lasts_s for fault in schedule if fault.kind in ("S3 slows down", "S3 hangs")) >= 60
    [alone] = profile_of(5, fault="S3 hangs").schedule(7)
    assert (alone.kind, alone.lasts_s) == ("S3 hangs", 300)


def test_the_model_takes_all_that_is_drawn() -> None:
    traffic = draw_traffic(7, results=300)
    state = {user_id: State() for user_id in traffic.users}
    for one in traffic.deliveries:
        if one.message:
            state[one.user_id] = contract.after(state[one.user_id], one.message, attempt=1)
    assert all(state[one.user_id].tasks for one in traffic.deliveries if one.message)


class TestRecovery:
    """The time from a fault's end to the next effect."""

    @staticmethod
    def after(seconds: float) -> datetime:
        return NOON + timedelta(seconds=seconds)

    def test_it_is_the_time_to_the_next_result(self) -> None:
        injected = [InjectedFault("disk full", self.after(0), self.after(5))]
        assert recoveries_s(injected, [self.after(1), self.after(7), self.after(8)]) == {"disk full": 2.0}

    def test_a_fault_that_goes_on_is_asked_in_place_of_one_that_ends_in_it(self) -> None:
        injected = [
            InjectedFault("worker frozen", self.after(0), self.after(5)),
            InjectedFault("disk full", self.after(4), self.after(9)),
        ]
        assert recoveries_s(injected, [self.after(10)]) == {"disk full": 1.0}

    def test_up_to_the_next_fault_that_stops_results_it_counts(self) -> None:
        injected = [
            InjectedFault("disk full", self.after(0), self.after(5)),
            InjectedFault("AWS slow", self.after(8), self.after(9)),
        ]
        assert recoveries_s(injected, [self.after(9.5)]) == {"disk full": 3.0, "AWS slow": 0.5}


def test_the_last_line_has_what_is_counted(found: Found) -> None:
    verdict = check(TRAFFIC, found._replace(letters=[]))
    injected = [InjectedFault("disk full", NOON, NOON)] * 2
    line = json.loads(last_line(verdict, found, injected, sent=4, seed=7))
    assert {name: line[name] for name in WRONG} == {**dict.fromkeys(WRONG, 0), "lost": 1}
    assert (line["sent"], line["seed"], line["faults"], line["dead_letters"]) == (4, 7, {"disk full": 2}, 1)


def test_a_seed_is_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "seeds.txt"
    path.write_text("# seeds\n1 short all kinds\n")
    for _ in range(2):
        keep_seed(Kept(7, 10.0, "lost 1"), path)
    assert read_seeds(path) == [Kept(1, None, "all kinds"), Kept(7, 10.0, "lost 1")]
