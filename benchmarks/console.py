"""The console on a full database: milliseconds a page, its memory, and the plans of the search for tasks.

PostgreSQL, LocalStack and the console are real. The database has 2,000,000 tasks, 1,000,000 notifications and 100,000
failed attempts; the dead-letter queue has 1,000 letters.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
from pathlib import Path
from urllib.parse import urlencode

import httpx
import psutil

from benchmarks.output import option_parser, report, tell
from benchmarks.servers import execute, make_queues_and_bucket, running_servers, send
from graphnode.dev.child_processes import Service
from graphnode.dev.local_aws import dead_letter_url, sqs_client
from graphnode.dev.stack import environment_of
from graphnode.storage.database import close_database, database, open_database
from graphnode.storage.task_search import LISTS, NEWEST, OF_USER

#: Rows, and dead letters.
TASKS = 2_000_000
NOTIFICATIONS = TASKS // 2
ATTEMPTS = 100_000
LETTERS = 1_000

#: Users, among whom the tasks are divided.
USERS = 20_000

#: Requests of each page.
ROUNDS = 20

#: Seconds until the letters must be listed.
PATIENCE_S = 60.0

#: One task in a thousand failed, one is of a rare type, one is open; the last hour has as many as any other.
FILL_TASKS = f"""
INSERT INTO tasks (task_id, task_type, user_id, status, attempts, error, created_at, updated_at, published_at,
                   finished_at)
SELECT 'task-' || n, CASE WHEN n % 997 = 1 THEN 'MICROSCOPE_INGEST_RESULT' ELSE 'ADD_NODE_RESULT' END,
    'user-' || n % {USERS},
    CASE n % 1000 WHEN 1 THEN 'FAILED' WHEN 2 THEN 'SUPERSEDED' WHEN 3 THEN 'PENDING' ELSE 'COMPLETED' END, 1,
    CASE WHEN n % 1000 = 1 THEN 'the AI server failed' END, at, at, at,
    CASE WHEN n % 1000 <> 3 THEN at + interval '30 seconds' END
FROM (SELECT n, now() - make_interval(secs => n * 0.1) AS at FROM generate_series(1, {TASKS}) AS n) AS numbers
"""  # noqa: S608

FILL_NOTIFICATIONS = f"""
INSERT INTO notifications (id, user_id, type, payload, event, created_at, push_status)
SELECT '01J' || to_char(n, 'FM00000000000000000000000'), 'user-' || n % {USERS}, 'ADD_CONVERSATION_COMPLETED',
    jsonb_build_object('taskId', 'task-' || n, 'timestamp', '2026-05-24T00:00:00Z'), 'event-' || n,
    now() - make_interval(secs => {NOTIFICATIONS} - n), 'SENT'
FROM generate_series(1, {NOTIFICATIONS}) AS n
"""  # noqa: S608

FILL_ATTEMPTS = f"""
INSERT INTO task_attempts (message_id, task_id, task_type, user_id, attempt, reason, error, given_up, failed_at)
SELECT 'message-' || n, 'task-' || n, 'ADD_NODE_RESULT', 'user-' || n % {USERS}, 1, 'OBJECT_NOT_FOUND', 'it is missing',
    n % 10 = 0, now() - make_interval(secs => ({ATTEMPTS} - n) * 0.5)
FROM generate_series(1, {ATTEMPTS}) AS n
"""  # noqa: S608

#: The pages, by path. `behind` leads far into the past.
BEHIND = f"{time.time() - 150_000:.6f}~X~x"
PAGES = {
    "overview": "/",
    "dead letters": "/letters",
    "dead letters of a reason": "/letters?reason=INVALID_ENVELOPE",
    "tasks": "/tasks",
    "tasks, far behind": "/tasks?" + urlencode({"behind": BEHIND}),
    "tasks, failed": "/tasks?status=FAILED",
    "tasks, failed, far behind": "/tasks?" + urlencode({"status": "FAILED", "behind": BEHIND}),
    "tasks, open": "/tasks?status=PENDING",
    "tasks, rare type": "/tasks?type=MICROSCOPE_INGEST_RESULT",
    "tasks, unknown type": "/tasks?type=NONE",
    "tasks of a user": "/tasks?user=user-77",
    "task": "/task?id=task-77",
    "user": "/user?id=user-77",
    "workers": "/workers",
    "audit": "/audit",
}


def main() -> None:
    """Measure, and print the figures."""
    options = option_parser("console", __doc__)
    options.add_argument("--plans", action="store_true", help="print the plans of the search, too")
    chosen = options.parse_args()
    with running_servers() as (localstack, postgres):
        environment = environment_of(localstack, database_url=postgres.url, prefix="console")
        make_queues_and_bucket(environment, "console")
        for statement in (FILL_TASKS, FILL_NOTIFICATIONS, FILL_ATTEMPTS, "VACUUM ANALYZE"):
            tell(statement.strip().partition("\n")[0])
            execute(postgres.url, statement)
        sqs = sqs_client(environment)
        send(sqs, dead_letter_url(sqs, environment["SQS_RESULT_QUEUE_URL"]), (f"letter {n}" for n in range(LETTERS)))
        command = [str(Path(sys.executable).with_name("graphnode")), "console", "--port", "0"]
        with Service("console", command, environment, ready="The console is at") as console:
            console.wait_until_ready()
            address = re.search(r"at (http://\S+)/;", console.log.text())
            figures = measure(address[1] if address else "", psutil.Process(console.pid))
        lines = plans(postgres.url) if chosen.plans else []
    report(figures, as_json=chosen.json)
    for line in lines:
        tell(line)


def measure(address: str, console: psutil.Process) -> dict[str, str]:
    """The milliseconds of each page, the seconds until the letters were listed, and the memory."""
    figures = {}
    with httpx.Client(base_url=address, timeout=60) as client:
        begun = time.monotonic()
        while f"<strong>{LETTERS:,}</strong> letters" not in client.get("/letters").text:
            if time.monotonic() - begun > PATIENCE_S:
                raise TimeoutError
            time.sleep(0.2)
        figures["s until the letters are listed"] = f"{time.monotonic() - begun:.1f}"
        for name, path in PAGES.items():
            times = []
            for _ in range(ROUNDS):
                started = time.perf_counter()
                answer = client.get(path)
                times.append((time.perf_counter() - started) * 1000)
                if answer.status_code != httpx.codes.OK:
                    raise ValueError(f"{path} answers {answer.status_code}")
            times.sort()
            figures[f"ms, {name}: median, slowest"] = f"{statistics.median(times):.0f}  {times[-1]:.0f}"
    memory = sum(one.memory_info().rss for one in (console, *console.children(recursive=True)))
    figures["MiB resident"] = f"{memory / (1 << 20):.0f}"
    return figures


def plans(database_url: str) -> list[str]:
    """The plans of a page far behind, of each list."""
    values = {"before": "2100-01-01", "before_id": "", "before_type": "", "since": "-infinity", "read": 51, "most": 51}
    statements = {name: NEWEST.format(time=at, listed=listed, wanted="true") for name, (at, listed) in LISTS.items()}
    statements["of a user"] = OF_USER.format(wanted="true")
    lines = []
    open_database(database_url)
    for name, statement in statements.items():
        rows = database.execute_sql(
            f"EXPLAIN (ANALYZE, BUFFERS) {statement}", values | {"user_id": "user-77"}
        ).fetchall()
        lines += ["", name, *(line for (line,) in rows)]
    close_database()
    return lines


if __name__ == "__main__":
    main()
