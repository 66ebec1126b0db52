"""A database outage of 20 visibility timeouts while 5,000 results wait: none is lost, applied twice or a dead letter.

PostgreSQL is stopped and started while a worker of two processes runs. The queues' redrive policy makes a dead letter
of a message after five receives. First the worker drains the same number of results without an outage. The drain after
the outage may take ten seconds longer than that.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import mix
from benchmarks.output import option_parser, report, tell
from benchmarks.traffic import QUEUES, Traffic, record_effects
from graphnode.dev.child_processes import Worker
from graphnode.dev.local_aws import dead_letter_url
from graphnode.dev.localstack import LocalStack
from graphnode.dev.outcomes import reading, rows
from graphnode.dev.postgres import EmbeddedPostgres
from graphnode.dev.stack import environment_of

MESSAGES = 5_000
PROCESSES, THREADS = 2, 8

#: The visibility timeout in seconds: the shortest that heartbeats can extend in time on a busy machine.
VISIBILITY_S = 5
TIMEOUTS = 20
MAX_RECEIVE_COUNT = 5

#: Seconds that the drain may take longer than without an outage.
MARGIN_S = 10.0

#: Results before the outage begins.
WARM_UP = 200

#: Seconds until a drain fails.
PATIENCE_S = 600.0

RECEIVES = "SELECT max(attempts) FROM tasks WHERE task_id LIKE %(tasks)s"


def main() -> None:
    """Measure, and print the figures; exit code 1 if a promise is broken."""
    parser = option_parser("outage", __doc__)
    parser.add_argument("--messages", type=int, default=MESSAGES, help=f"results that wait (default: {MESSAGES:,})")
    options = parser.parse_args()
    figures = measure(options.messages)
    report(figures, as_json=options.json)
    sys.exit(0 if figures["holds"] else 1)


def measure(messages: int) -> dict[str, Any]:
    """The figures of a drain without an outage, and of one after an outage."""
    with mix.running_servers() as (localstack, postgres):
        record_effects(postgres.url)
        backlog_s = drain_s(localstack, postgres, messages=messages)
        tell(f"{messages} results, no outage: {backlog_s:.1f} s")
        traffic = new_traffic(localstack, postgres)
        with running_worker(traffic) as worker:
            traffic.send(WARM_UP)
            traffic.wait_until_handled(timeout_s=PATIENCE_S)
            postgres.stop()
            stopped = time.time()
            traffic.send(messages)
            time.sleep(TIMEOUTS * VISIBILITY_S)
            waiting = traffic.depth()
            postgres.start()
            returned = time.time()
            tell(f"the database was away for {returned - stopped:.1f} s; {waiting} messages wait")
            in_time = traffic.wait_until_handled(timeout_s=PATIENCE_S)
            effects, dead = traffic.effects(), traffic.dead_letters()
            with reading(postgres.url) as database:
                ((receives,),) = rows(database, RECEIVES, tasks=f"{traffic.prefix}-%")
            outages = worker.log.text().count("outage began")
    drained_s = effects.last_at - returned
    sent = messages + WARM_UP
    return {
        "messages": messages,
        "visibility_s": VISIBILITY_S,
        "max_receive_count": MAX_RECEIVE_COUNT,
        "outage_s": round(returned - stopped, 1),
        "outages_told": outages,
        "waiting_at_return": waiting,
        "dead_letters": dead,
        "lost": sent - effects.tasks,
        "applied_twice": effects.writes - effects.tasks,
        "receives_max": receives,
        "drained_s": round(drained_s, 1),
        "backlog_s": round(backlog_s, 1),
        "over_s": round(drained_s - backlog_s, 1),
        "holds": in_time and not dead and effects.tasks == effects.writes == sent and drained_s <= backlog_s + MARGIN_S,
    }


def drain_s(localstack: LocalStack, postgres: EmbeddedPostgres, *, messages: int) -> float:
    """Seconds from the first commit to the last of a backlog that waits when the worker starts."""
    traffic = new_traffic(localstack, postgres)
    traffic.send(messages)
    with running_worker(traffic):
        traffic.wait_until_handled(timeout_s=PATIENCE_S)
    effects = traffic.effects()
    return effects.last_at - effects.first_at


def new_traffic(localstack: LocalStack, postgres: EmbeddedPostgres) -> Traffic:
    """Traffic on new queues, where SQS makes a dead letter of a message after MAX_RECEIVE_COUNT receives."""
    prefix = f"outage-{next(mix.NUMBERS)}"
    environment = environment_of(localstack, database_url=postgres.url, prefix=prefix)
    traffic = Traffic(environment | {"GRAPHNODE_VISIBILITY_TIMEOUT": str(VISIBILITY_S)}, prefix)
    for name in QUEUES:
        dead = dead_letter_url(traffic.sqs, environment[name])
        arn = traffic.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        policy = {"deadLetterTargetArn": arn, "maxReceiveCount": MAX_RECEIVE_COUNT}
        traffic.sqs.set_queue_attributes(QueueUrl=environment[name], Attributes={"RedrivePolicy": json.dumps(policy)})
    return traffic


@contextmanager
def running_worker(traffic: Traffic) -> Iterator[Worker]:
    """A worker that handles the traffic's results."""
    with Worker(traffic.environment, processes=PROCESSES, threads=THREADS) as worker:
        worker.wait_until_ready()
        yield worker


if __name__ == "__main__":
    main()
