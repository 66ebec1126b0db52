"""One user never holds up another: real processes, whatever holds the user's lock and however long the backlog is."""

from __future__ import annotations

import json
from contextlib import ExitStack

from graphnode.dev import outcomes
from tests.e2e.ai_server import AiServer
from tests.e2e.conftest import StartWorker

#: More messages than threads, and than one poll brings.
LOCKED_RESULTS = 42

#: The kinds of these results.
KINDS = ("graph", "summary", "add-node")

#: The results of other users.
OTHERS = 12

#: More messages of one user than a lane holds.
BACKLOG = 600


def failures(ai: AiServer) -> list[tuple[object, ...]]:
    """The failed attempts of all messages, and the dead letters."""
    return ai.rows("SELECT reason FROM task_attempts") + [
        (letter,) for letter in outcomes.dead_letters(ai.sqs, ai.dead_letter_queue)
    ]


def test_results_of_a_locked_user_wait_without_a_failure_while_the_others_are_stored(
    ai: AiServer, start_worker: StartWorker
) -> None:
    worker = start_worker(processes=1, threads=4)
    with ai.locked_user("ada"):
        locked = [ai.send(ai.result(kind)) for kind in KINDS for _ in range(LOCKED_RESULTS // len(KINDS))]
        ai.wait_until_in_flight(LOCKED_RESULTS)

        others = [ai.send(ai.result("graph", user_id=f"user-{number}")) for number in range(OTHERS)]

        assert {ai.ended(result).status for result in others} == {"COMPLETED"}
        assert ai.rows("SELECT task_id FROM tasks WHERE user_id = 'ada'") == []
    assert {ai.ended(result).status for result in locked} <= {"COMPLETED", "SUPERSEDED"}
    ai.wait_until_drained()
    assert failures(ai) == []
    assert "failed, will be tried again" not in worker.log.text()


def test_many_locked_users_take_no_thread_from_the_others(ai: AiServer, start_worker: StartWorker) -> None:
    start_worker(processes=1, threads=4)
    names = [f"locked-{number}" for number in range(20)]
    with ExitStack() as locks:
        for name in names:
            locks.enter_context(ai.locked_user(name))
        locked = [ai.send(ai.result("graph", user_id=name)) for name in names]
        ai.wait_until_in_flight(len(names))

        others = [ai.send(ai.result("graph", user_id=f"user-{number}")) for number in range(OTHERS)]

        assert {ai.ended(result).status for result in others} == {"COMPLETED"}
    assert {ai.ended(result).status for result in locked} == {"COMPLETED"}
    assert failures(ai) == []


def test_big_graphs_pass_those_of_a_locked_user(ai: AiServer, start_worker: StartWorker) -> None:
    start_worker(processes=1, threads=4)
    nodes = [{"id": number, "orig_id": f"conv-{number}", "metadata": {"text": "x" * 900}} for number in range(1500)]
    big = {"resultS3Key": json.dumps({"nodes": nodes, "edges": []}).encode()}
    assert len(big["resultS3Key"]) > 1 << 20
    with ai.locked_user("ada"):
        locked = [ai.send(ai.result("graph", documents=dict(big))) for _ in range(3)]
        ai.wait_until_in_flight(3)

        others = [ai.send(ai.result("graph", user_id=f"user-{number}", documents=dict(big))) for number in range(3)]

        assert {ai.ended(result).status for result in others} == {"COMPLETED"}
    assert {ai.ended(result).status for result in locked} <= {"COMPLETED", "SUPERSEDED"}
    assert failures(ai) == []


def test_a_backlog_of_one_user_is_handled_by_two_processes_and_received_a_few_times_at_most(
    ai: AiServer, start_worker: StartWorker
) -> None:
    start_worker(processes=2, threads=4)
    ai.send_progress(tasks=BACKLOG, users=1)
    other = ai.send(ai.result("graph", user_id="bob"))

    assert ai.ended(other).status == "COMPLETED"
    ai.wait_until_drained()

    assert ai.rows("SELECT count(*) FROM tasks WHERE status = 'PROGRESS'") == [(BACKLOG,)]
    assert failures(ai) == []
