"""Restarts under a steady stream of messages: none waits for a visibility timeout, none is handled twice."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from datetime import UTC, datetime

from tests.e2e.ai_server import WAITING, AiServer
from tests.e2e.conftest import StartWorker

RESTARTS = 20

#: Seconds between two messages of the stream.
PAUSE_S = 0.1

#: The longest wait of a message, in seconds. Handling it takes milliseconds.
MOST_WAIT_S = 5.0


class Stream(threading.Thread):
    """Sends a progress message of a new task every tenth of a second, until `ended` is set."""

    def __init__(self, ai: AiServer) -> None:
        super().__init__(daemon=True)
        self.ai = ai
        self.sent = 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(PAUSE_S):
            payload = {"userId": f"user-{self.sent % 7}", "currentStage": "clustering", "progressPercent": 1}
            timestamp = datetime.now(UTC).isoformat()
            self.ai.send_envelope("GRAPH_GENERATION_PROGRESS", f"t-{self.sent}", payload, timestamp=timestamp)
            self.sent += 1


def test_twenty_rolling_restarts_delay_no_message_and_handle_none_twice(
    ai: AiServer, start_worker: StartWorker
) -> None:
    workers = [start_worker(), start_worker()]
    logs = [worker.log for worker in workers]
    stream = Stream(ai)
    stream.start()

    for number in range(RESTARTS):
        stopping = threading.Thread(target=workers[number % 2].stop)
        stopping.start()
        workers[number % 2] = start_worker()
        logs.append(workers[number % 2].log)
        stopping.join()
    stream.ended.set()
    stream.join()
    ai.wait_until_drained()

    handled = Counter(
        task_id for log in logs for task_id in re.findall(r"done .*actor=graph_progress .*task_id=(t-\d+)", log.text())
    )
    assert handled == Counter({f"t-{number}": 1 for number in range(stream.sent)})
    (waits,) = ai.rows("SELECT max(extract(epoch FROM created_at - progress_at)), count(*) FROM tasks")
    assert waits[1] == stream.sent
    assert waits[0] < MOST_WAIT_S


def test_a_second_sigterm_stops_at_once(ai: AiServer, start_worker: StartWorker) -> None:
    worker = start_worker(threads=1, GRAPHNODE_SHUTDOWN_TIMEOUT="500", GRAPHNODE_VISIBILITY_TIMEOUT="4")
    with ai.locked_graphs():
        result = ai.send(ai.result("graph"))
        ai.wait_until(WAITING)
        ai.terminate(worker)
        ai.wait_for_log(worker, "Shutting down")
        began = time.monotonic()

        ai.terminate(worker)

        ai.wait_until_ended(worker)
        assert time.monotonic() - began < 30
    start_worker()
    assert ai.ended(result).status == "COMPLETED"
