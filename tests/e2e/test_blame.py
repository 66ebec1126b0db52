"""A trouble that is everybody's is an outage, whatever it answers; a message is charged only with what is its own.

The workers' waits are shortened (`hurried_actors.py`): each trouble lasts for more than four minutes of their clock, in
which eight attempts would be used up.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import psycopg2
import pytest

from graphnode.dev.child_processes import Worker
from graphnode.dev.localstack import LocalStack
from tests.aws_proxy import Hang, Refusal, Rule, Strip
from tests.conftest import execute
from tests.e2e.ai_server import AiServer
from tests.e2e.trial import (
    LASTS_S,
    RESULTS,
    THREADS,
    VISIBILITY_S,
    Seen,
    Servers,
    Trial,
    queue_name,
    running_servers,
    running_worker,
)
from tests.faults.credential_sources import NEW, OLD, ContainerEndpoint, CredentialFile
from tests.freezing import frozen

#: The table that a result is stored in, and all tables that are written meanwhile.
TABLE = "graph_summaries"
TABLES = (TABLE, "tasks", "task_attempts", "notifications", "workers")

#: A row when all threads wait for a lock.
STANDSTILL = "SELECT 1 FROM pg_locks WHERE NOT granted HAVING count(*) >= %(threads)s"

#: The process IDs of the worker's sessions.
SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'graphnode' AND backend_type = 'client backend'"

REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION USING ERRCODE = TG_ARGV[0], MESSAGE = 'This error is injected.'; END $$
"""

#: The fields of a received message.
FIELDS = ("Attributes", "MessageId", "ReceiptHandle", "Body")

#: A body that is no JSON.
POISON = '{"taskType": "GRAPH_SUMMARY_RESULT", "taskId": "task-1", "payload": '


@pytest.fixture(scope="module")
def servers(localstack: LocalStack) -> Iterator[Servers]:
    """The servers of this file."""
    with running_servers(localstack) as servers:
        execute(servers.database_url, REFUSE)
        yield servers


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> CredentialFile:
    """The file with the worker's credentials."""
    return CredentialFile(tmp_path_factory.mktemp("worker") / "credentials")


@pytest.fixture(scope="module")
def shared_worker(servers: Servers, credentials: CredentialFile) -> Iterator[tuple[AiServer, Worker]]:
    """The worker on which one trouble comes after the other."""
    with running_worker(servers, **credentials.environment) as running:
        yield running


@contextmanager
def trial_of(servers: Servers, ai: AiServer, worker: Worker) -> Iterator[Trial]:
    """A trial of this worker. The report of a failed test has its part of the log."""
    trial = Trial(servers, ai, worker)
    yield trial
    sys.stdout.write(trial.log())
    trial.clear()


@pytest.fixture
def trial(servers: Servers, shared_worker: tuple[AiServer, Worker]) -> Iterator[Trial]:
    """A trial of the shared worker."""
    with trial_of(servers, *shared_worker) as trial:
        yield trial


#: Begins a trouble, sends the first results, and ends the trouble after the block.
Injection = Callable[[Trial], AbstractContextManager[None]]


def aws(*rules: Rule) -> Injection:
    """AWS answers by these rules."""

    @contextmanager
    def inject(trial: Trial) -> Iterator[None]:
        trial.proxy.rules = rules
        trial.send()
        try:
            yield
        finally:
            trial.proxy.rules = ()

    return inject


@contextmanager
def standstill(trial: Trial, *statements: str) -> Iterator[None]:
    """Send results, of which each thread has one in a transaction until the end of the block.

    Parameters:
      statements: they take effect then.
    """
    with closing(psycopg2.connect(trial.servers.database_url)) as connection:
        cursor = connection.cursor()
        for statement in (f"LOCK TABLE {TABLE}", *statements):
            cursor.execute(statement)
        trial.send()
        trial.ai.wait_until(STANDSTILL, threads=THREADS)
        yield
        connection.commit()


def database(*statements: str, undo: Sequence[str]) -> Injection:
    """PostgreSQL refuses, after these statements. Each thread is in a transaction when it begins to."""

    @contextmanager
    def inject(trial: Trial) -> Iterator[None]:
        with standstill(trial, *statements):
            pass
        try:
            yield
        finally:
            for statement in undo:
                trial.ai.execute(statement)

    return inject


def refused_writes(sqlstate: str, *tables: str) -> Injection:
    """PostgreSQL refuses each write to these tables. They can be read."""
    return database(
        *(
            f"CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON {table} EXECUTE FUNCTION refuse('{sqlstate}')"
            for table in tables
        ),
        undo=[f"DROP TRIGGER refuse ON {table}" for table in tables],
    )


def refused_commits(sqlstate: str, *tables: str) -> Injection:
    """PostgreSQL refuses each commit of a row in these tables."""
    return database(
        *(
            f"CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON {table} DEFERRABLE INITIALLY DEFERRED"
            f" FOR EACH ROW EXECUTE FUNCTION refuse('{sqlstate}')"
            for table in tables
        ),
        undo=[f"DROP TRIGGER refuse ON {table}" for table in tables],
    )


@contextmanager
def frozen_postgres(trial: Trial) -> Iterator[None]:
    """PostgreSQL accepts connections, and answers nothing."""
    with frozen(trial.servers.postgres.pid):
        trial.send()
        yield


class Row(NamedTuple):
    """A trouble that is everybody's.

    Parameters:
      services: what the log may call the service.
      says: one of these must be in the log line of the outage.
      is_probed: whether the service's probe fails, too. If not, one message after the other is received to try.
    """

    inject: Injection
    services: Sequence[str]
    says: Sequence[str]
    is_probed: bool = True


S3 = ("S3", "AWS")


def of_s3(status: int, code: str, calls: str = "s3:*") -> Any:
    """S3 refuses these calls. A policy, or a key, refuses only what is there."""
    refusal = Refusal(status, code, only_found=calls != "s3:*")
    return pytest.param(Row(aws(Rule(calls, refusal)), S3, [code]), id=f"S3 {code}")


def of_postgres(name: str, injection: Injection, *says: str, is_probed: bool = True) -> Any:
    """PostgreSQL is away, or refuses."""
    return pytest.param(Row(injection, ["PostgreSQL"], says, is_probed), id=f"PostgreSQL {name}")


ROWS = [
    of_s3(503, "SlowDown"),
    pytest.param(Row(aws(Rule("s3:*", Hang())), S3, ["ReadTimeoutError"]), id="S3 hangs"),
    of_s3(403, "AccessDenied", "s3:?etObject"),
    of_s3(400, "KMS.DisabledException", "s3:GetObject"),
    of_s3(400, "KMSInvalidStateException", "s3:GetObject"),
    of_s3(403, "RequestTimeTooSkewed"),
    of_s3(400, "InvalidToken"),
    of_s3(400, "ExpiredToken"),
    of_s3(403, "AccountProblem"),
    # botocore asks the bucket's HEAD for the region, and goes round in circles if that is redirected, too.
    of_s3(301, "PermanentRedirect", "s3:GetObject"),
    of_s3(400, "AuthorizationHeaderMalformed"),
    of_postgres(
        "revoked right",
        database(
            f"REVOKE INSERT, UPDATE ON {TABLE} FROM graphnode_worker",
            undo=[f"GRANT INSERT, UPDATE ON {TABLE} TO graphnode_worker"],
        ),
        "42501",
        "INSUFFICIENT_PRIVILEGE",
    ),
    of_postgres(
        "missing table",
        database(f"ALTER TABLE {TABLE} RENAME TO elsewhere", undo=[f"ALTER TABLE elsewhere RENAME TO {TABLE}"]),
        "42P01",
        "UNDEFINED_TABLE",
    ),
    # A probe that writes its own row does not see this one.
    of_postgres("I/O error of one table", refused_writes("58030", TABLE), "58030", "IO_ERROR", is_probed=False),
    of_postgres("full disk", refused_writes("53100", *TABLES), "53100", "DISK_FULL"),
    of_postgres(
        "full queue at COMMIT", refused_commits("54000", "tasks", "workers"), "54000", "PROGRAM_LIMIT_EXCEEDED"
    ),
    of_postgres("frozen", frozen_postgres, "answer", "reached", "timeout"),
]


@pytest.mark.parametrize("row", ROWS)
def test_what_is_everybodys_trouble_is_an_outage_that_is_logged_once_and_charged_to_nobody(
    trial: Trial, row: Row
) -> None:
    with row.inject(trial):
        trial.wait_for_outage()
        trial.send()
        trial.endure()
        waiting = trial.visible(trial.ai.result_queue)

    assert trial.seen() == Seen(2 * RESULTS, logged=(1, 1))
    assert waiting >= RESULTS or not row.is_probed, "what is sent during an outage stays on the queue"
    [line] = trial.lines("outage began")
    assert line["service"] in row.services
    assert any(text in line["error"] for text in row.says)
    assert not any(key in trial.log() for result in trial.results for key in result.documents)


def test_credentials_that_are_refused_are_looked_for_again(trial: Trial, credentials: CredentialFile) -> None:
    with trial.in_flight():
        trial.proxy.rules = [
            Rule("s3:*", Refusal(403, "InvalidAccessKeyId"), signed_by=OLD),
            Rule("sqs:*", Refusal(403, "InvalidClientTokenId"), signed_by=OLD),
        ]
    trial.wait_for_outage()

    credentials.write(NEW)

    assert trial.applied(trial.results) == RESULTS
    trial.send()
    assert trial.seen() == Seen(2 * RESULTS, logged=(1, 1))
    [line] = trial.lines("outage began")
    assert line["error"].count("InvalidAccessKeyId") == 1


@pytest.fixture
def endpoint() -> Iterator[ContainerEndpoint]:
    """The endpoint that a worker has its credentials from."""
    with ContainerEndpoint() as endpoint:
        # In their last ten minutes botocore refreshes credentials before each call.
        endpoint.lifetime = timedelta(minutes=5)
        yield endpoint


@pytest.fixture
def container_trial(servers: Servers, endpoint: ContainerEndpoint) -> Iterator[Trial]:
    """A trial of a worker in a container that hands it its credentials."""
    with (
        running_worker(
            servers,
            **endpoint.environment,
        ) as running,
        trial_of(servers, *running) as trial,
    ):
        yield trial


def test_a_container_that_hands_out_expired_credentials_is_an_outage(
    container_trial: Trial, endpoint: ContainerEndpoint
) -> None:
    with container_trial.in_flight():
        endpoint.lifetime = timedelta(minutes=-1)
    container_trial.wait_for_outage()
    container_trial.send()
    container_trial.endure()
    endpoint.lifetime = timedelta(minutes=5)

    assert container_trial.seen() == Seen(2 * RESULTS, logged=(1, 1))
    [line] = container_trial.lines("outage began")
    assert "redentials" in line["error"]


def test_sessions_that_stop_answering_in_a_transaction_are_no_messages_fault(trial: Trial) -> None:
    with ExitStack() as stopped:
        with standstill(trial):
            for (pid,) in trial.ai.rows(SESSIONS):
                stopped.enter_context(frozen(pid))
        # Its time limit is over by then, and so is the wait for PostgreSQL's answer.
        trial.endure(lasts_s=2 * LASTS_S)

    began, over = trial.seen().logged
    assert trial.seen() == Seen(RESULTS, logged=(began, over))
    assert over >= began


def test_a_message_that_is_the_cause_is_charged_alone_while_the_others_are_applied(trial: Trial) -> None:
    cause = trial.ai.result("summary", user_id="cause")
    [key] = cause.documents
    trial.proxy.rules = [Rule("s3:*", Refusal(503, "SlowDown"), target=key)]
    trial.ai.send(cause)
    assert trial.applied(trial.send()) == RESULTS
    trial.ai.wait_until("SELECT 1 FROM task_attempts")
    assert trial.applied(trial.send()) == RESULTS

    began, over = trial.seen().logged
    assert over >= began
    assert set(trial.ai.rows("SELECT task_id FROM task_attempts")) == {(cause.task_id,)}


def test_bodies_that_are_no_json_are_dead_letters_at_once_and_no_outage(trial: Trial) -> None:
    for _ in range(RESULTS):
        trial.ai.send_body(POISON)
    trial.ai.dead_letters(RESULTS)
    trial.send()

    assert trial.seen() == Seen(RESULTS, logged=(0, 0), dead_letters={"INVALID_ENVELOPE": RESULTS})


def test_an_entry_of_a_batch_without_one_of_its_fields_costs_itself(trial: Trial) -> None:
    odd = {name: trial.ai.result("summary", user_id=name) for name in FIELDS}
    trial.proxy.rules = [Rule("sqs:ReceiveMessage", Strip({result.body: [name] for name, result in odd.items()}))]
    trial.wait_for_poll()
    for result in odd.values():
        trial.ai.send(result)
    assert trial.applied(trial.send()) == RESULTS
    trial.proxy.rules = []

    trial.results += odd.values()
    assert trial.seen() == Seen(RESULTS + len(odd), logged=(0, 0))


def test_a_dead_letter_that_cannot_be_deleted_is_sent_once(trial: Trial) -> None:
    trial.proxy.rules = [Rule("sqs:DeleteMessage*", Refusal(403, "AccessDenied"))]
    trial.ai.send_body(POISON)
    trial.ai.dead_letters(1)
    trial.endure(letters=2, lasts_s=2.5 * VISIBILITY_S)
    trial.proxy.rules = []
    trial.ai.wait_until_drained()

    assert trial.seen().dead_letters == {"INVALID_ENVELOPE": 1}


def test_a_dead_letter_that_cannot_be_sent_for_a_while_is_logged_once(trial: Trial) -> None:
    queue = queue_name(trial.ai.dead_letter_queue)
    trial.proxy.rules = [Rule("sqs:SendMessage*", Refusal(403, "AccessDenied"), target=queue)]
    trial.ai.send_body(POISON)
    trial.endure()
    trial.proxy.rules = []
    trial.ai.dead_letters(1)

    assert trial.seen().dead_letters == {"INVALID_ENVELOPE": 1}
    assert [line["event"] for line in trial.lines("dead letter")].count("dead letter") == 1
