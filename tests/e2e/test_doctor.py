"""The doctor on set-ups broken on purpose: PostgreSQL, LocalStack, and stubs for denials that these cannot give."""

from __future__ import annotations

import json
import shlex
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg2
import pytest
from click.testing import CliRunner

from benchmarks import fcm_stub
from benchmarks.fcm_stub import FcmServer
from benchmarks.sqs_stub import StubServer
from graphnode.cli.doctor import doctor
from graphnode.clients.aws import QUICK, Aws
from graphnode.dev.localstack import LocalStack
from graphnode.dev.stack import environment_of
from graphnode.operations.doctor.bucket_check import check_bucket
from graphnode.operations.doctor.database_check import check_database
from graphnode.operations.doctor.findings import Finding, Severity
from graphnode.operations.doctor.firebase_check import check_firebase
from graphnode.operations.doctor.queue_check import CONSUMER_ACTIONS, SENDER_ACTIONS, check_queue
from graphnode.settings import PushSettings
from graphnode.storage import connections
from graphnode.storage.database import close_database, open_database
from tests.e2e.ai_server import AiServer
from tests.e2e.conftest import StartWorker, as_worker

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

Environment = dict[str, str]

RESULTS, REQUESTS = "SQS_RESULT_QUEUE_URL", "SQS_REQUEST_QUEUE_URL"


def wrong(findings: list[Finding]) -> list[Finding]:
    return [found for found in findings if found.severity > 0]


def only(findings: list[Finding]) -> Finding:
    (found,) = wrong(findings)
    return found


@pytest.fixture(scope="module")
def fcm() -> Iterator[FcmServer]:
    with FcmServer() as server:
        server.answer = lambda _: fcm_stub.INVALID_TOKEN
        yield server


@pytest.fixture(scope="module")
def client(localstack: LocalStack) -> SQSClient:
    """One client for all tests of queues: making one takes longer than such a test."""
    return Aws.of_environment(environment_of(localstack, database_url=""), limits=QUICK).sqs()


class TestQueues:
    """Each test breaks the result queue of a deployment, and checks it."""

    @pytest.fixture
    def sqs(self, client: SQSClient) -> SQSClient:
        return client

    @pytest.fixture
    def stack_env(self, localstack: LocalStack, client: SQSClient) -> Environment:
        """The part of an environment that is checked: a result queue with a dead-letter queue, and a plain queue."""
        environment = environment_of(localstack, database_url="", prefix=f"test-{uuid4().hex}")
        for url in (environment[RESULTS] + "-dlq", environment[REQUESTS]):
            client.create_queue(QueueName=url.rpartition("/")[2], Attributes={"MessageRetentionPeriod": "1209600"})
        target = f"arn:aws:sqs:{environment['AWS_REGION']}:000000000000:{environment[RESULTS].rpartition('/')[2]}-dlq"
        policy = json.dumps({"deadLetterTargetArn": target, "maxReceiveCount": 50})
        client.create_queue(QueueName=environment[RESULTS].rpartition("/")[2], Attributes={"RedrivePolicy": policy})
        return environment

    @staticmethod
    def check(environment: Environment, sqs: SQSClient, url: str | None = None) -> list[Finding]:
        return check_queue(
            sqs,
            "result queue",
            url or environment[RESULTS],
            region=environment["AWS_REGION"],
            actions=CONSUMER_ACTIONS,
            max_attempts=8,
        )

    @staticmethod
    def redrive(sqs: SQSClient, url: str, receives: int, *, target: str | None = None) -> str:
        """Set a redrive policy, to the same target as before unless another is given. Returns the target's URL."""
        if target is None:
            known = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"])["Attributes"]
            target = str(json.loads(known["RedrivePolicy"])["deadLetterTargetArn"])
        policy = json.dumps({"deadLetterTargetArn": target, "maxReceiveCount": receives})
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": policy})
        return url.rsplit("/", 1)[0] + "/" + target.rpartition(":")[2]

    def test_does_not_exist(self, stack_env: Environment, sqs: SQSClient) -> None:
        found = only(self.check(stack_env, sqs, stack_env[RESULTS] + "-gone"))

        assert found.severity is Severity.BROKEN
        assert found.what.endswith("-results-gone does not exist")
        commands = found.mend.split("\n")
        assert [shlex.split(line)[4].rpartition("-results")[2] for line in commands] == ["-gone-dlq", "-gone"]

    def test_has_no_dead_letter_queue(self, stack_env: Environment, sqs: SQSClient) -> None:
        sqs.set_queue_attributes(QueueUrl=stack_env[RESULTS], Attributes={"RedrivePolicy": ""})

        found = only(self.check(stack_env, sqs))

        assert found.severity is Severity.BROKEN
        assert "has no redrive policy, and so no dead-letter queue" in found.what
        assert [shlex.split(line)[2] for line in found.mend.split("\n")] == ["create-queue", "set-queue-attributes"]

    def test_is_its_own_dead_letter_queue(self, stack_env: Environment, sqs: SQSClient) -> None:
        known = sqs.get_queue_attributes(QueueUrl=stack_env[RESULTS], AttributeNames=["QueueArn"])["Attributes"]
        self.redrive(sqs, stack_env[RESULTS], 50, target=known["QueueArn"])

        found = only(self.check(stack_env, sqs))

        assert found.severity is Severity.BROKEN
        assert found.what.endswith("-results is its own dead-letter queue")

    def test_its_dead_letter_queue_was_deleted(self, stack_env: Environment, sqs: SQSClient) -> None:
        sqs.delete_queue(QueueUrl=self.redrive(sqs, stack_env[RESULTS], 50))

        found = only(self.check(stack_env, sqs))

        assert found.severity is Severity.BROKEN
        assert found.what.endswith("-results-dlq does not exist")
        assert found.what.startswith("the dead-letter queue")

    def test_sqs_gives_up_before_the_worker(self, stack_env: Environment, sqs: SQSClient) -> None:
        self.redrive(sqs, stack_env[RESULTS], 5)

        found = only(self.check(stack_env, sqs))

        assert "after 5 receives, the worker gives up after 8 failures" in found.what

    def test_dead_letters_are_kept_no_longer_than_messages(self, stack_env: Environment, sqs: SQSClient) -> None:
        sqs.set_queue_attributes(
            QueueUrl=self.redrive(sqs, stack_env[RESULTS], 50), Attributes={"MessageRetentionPeriod": "86400"}
        )

        found = only(self.check(stack_env, sqs))

        assert "keeps messages for 1 day, its source for 4 days" in found.what

    def test_its_dead_letter_queue_has_a_redrive_policy(self, stack_env: Environment, sqs: SQSClient) -> None:
        url = stack_env[REQUESTS]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        self.redrive(sqs, self.redrive(sqs, stack_env[RESULTS], 50), 50, target=arn)

        found = only(self.check(stack_env, sqs))

        assert "has a redrive policy of its own, to test-" in found.what

    @pytest.mark.parametrize("action", ["ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility"])
    def test_the_worker_lacks_a_permission(self, stub: StubServer, action: str) -> None:
        environment = {"AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL": stub.url, RESULTS: stub.queue_url("doctored")}
        stub.order(faults=[{"action": action, "kind": "denied"}])

        (found,) = [
            found
            for found in self.check(environment, Aws.of_environment(environment, limits=QUICK).sqs())
            if "rights" in found.subject
        ]

        assert found.what == f"not allowed: sqs:{action}"
        assert json.loads(found.mend)["Action"] == [f"sqs:{action}"]

    def test_the_worker_may_not_look_at_it(self, stub: StubServer) -> None:
        environment = {"AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL": stub.url, RESULTS: stub.queue_url("doctored")}
        stub.order(faults=[{"action": "GetQueueAttributes", "kind": "denied"}])

        found = only(self.check(environment, Aws.of_environment(environment, limits=QUICK).sqs()))

        assert found.what == "not allowed: sqs:GetQueueAttributes"
        assert json.loads(found.mend)["Resource"].endswith(":doctored")

    def test_sqs_cannot_be_reached(self, aws_credentials: None) -> None:
        # Port 1 is tcpmux: nobody listens there.
        environment = {"AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}

        found = only(
            self.check(
                environment, Aws.of_environment(environment, limits=QUICK).sqs(), "http://127.0.0.1:1/000000000000/q"
            )
        )

        assert found.what.startswith("AWS cannot be reached")
        assert found.mend.startswith("curl -sv http://127.0.0.1:1")

    def test_checking_a_sound_queue_sends_deletes_and_hides_nothing(
        self, stack_env: Environment, sqs: SQSClient
    ) -> None:
        sqs.send_message(QueueUrl=stack_env[RESULTS], MessageBody="kept")

        findings = check_queue(
            sqs,
            "result queue",
            stack_env[RESULTS],
            region=stack_env["AWS_REGION"],
            actions=CONSUMER_ACTIONS + SENDER_ACTIONS,
            max_attempts=8,
        )

        assert wrong(findings) == []
        received = sqs.receive_message(QueueUrl=stack_env[RESULTS], MaxNumberOfMessages=10)["Messages"]
        assert [message["Body"] for message in received] == ["kept"]


class TestBucket:
    def test_does_not_exist(self, localstack: LocalStack) -> None:
        s3 = Aws.of_environment(environment_of(localstack, database_url=""), limits=QUICK).s3()

        found = only(check_bucket(s3, "no-such-bucket-here", region="us-east-1"))

        assert found.what == "the bucket no-such-bucket-here does not exist"
        assert found.mend == "aws s3api create-bucket --bucket no-such-bucket-here --region us-east-1"


class TestDatabase:
    @pytest.fixture(autouse=True)
    def closed(self) -> Iterator[None]:
        yield
        close_database()

    @staticmethod
    def check(url: str, *, processes: int | None = None, threads: int | None = None) -> list[Finding]:
        open_database(url)
        return check_database(url, processes=processes, threads=threads)

    def test_does_not_run(self) -> None:
        found = only(self.check("postgresql://me:hunter2@127.0.0.1:1/db"))

        assert (found.subject, found.what) == ("database", "nobody listens at 127.0.0.1:1")

    def test_does_not_exist(self, postgres: str) -> None:
        found = only(self.check(postgres.rpartition("/")[0] + "/no_such_database"))

        assert found.what.startswith("there is no database no_such_database on ")
        assert found.mend.startswith("createdb")

    def test_was_never_migrated(self, empty_database_url: str) -> None:
        findings = wrong(self.check(empty_database_url))

        assert [(found.subject, found.what) for found in findings] == [
            ("pgvector", f"the extension vector is not in the database {empty_database_url.rpartition('/')[2]}"),
            ("schema", "The database has no schema yet"),
        ]
        assert findings[1].mend == "graphnode migrate"

    @pytest.fixture
    def unknown_migration(self, database_url: str) -> Iterator[Callable[[str | None], None]]:
        """Apply a migration that no version knows, with this floor."""
        with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            insert = "INSERT INTO schema_migration (name, applied, floor) VALUES ('9999_of_tomorrow', now(), %s)"
            yield lambda floor: cursor.execute(insert, (floor,))
            cursor.execute("DELETE FROM schema_migration WHERE name = '9999_of_tomorrow'")

    def test_is_too_new_for_the_worker(
        self, database_url: str, unknown_migration: Callable[[str | None], None]
    ) -> None:
        unknown_migration("9999_of_tomorrow")

        found = only(self.check(database_url))

        assert "does not know 9999_of_tomorrow" in found.what
        assert found.mend == "deploy a version that knows 9999_of_tomorrow at least"

    def test_is_newer_and_compatible(self, database_url: str, unknown_migration: Callable[[str | None], None]) -> None:
        unknown_migration(None)

        (found,) = [found for found in self.check(database_url) if found.subject == "schema"]

        assert found.severity is Severity.FINE
        assert found.what.endswith("and newer ones that it can work with: 9999_of_tomorrow")

    def test_can_only_be_read(self, database_url: str) -> None:
        found = only(self.check(f"{database_url}?options=-c%20default_transaction_read_only%3Don"))

        assert found.what.endswith("is read-only")

    def test_has_tables_that_the_worker_may_not_write(self, database_url: str, role: str) -> None:
        with closing(psycopg2.connect(database_url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(f"GRANT CONNECT ON DATABASE {connection.info.dbname} TO {role}")
            cursor.execute(f"GRANT USAGE ON SCHEMA public TO {role}; GRANT SELECT ON schema_migration TO {role}")
        url = self.as_role(database_url, role)

        (found,) = [found for found in wrong(self.check(url)) if found.subject == "table rights"]

        assert found.what.startswith(f"{role} may not DELETE, SELECT on device_tokens and ")
        assert found.what.endswith(" more tables")
        assert found.mend == f'GRANT graphnode_worker TO "{role}";'
        with closing(psycopg2.connect(database_url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(found.mend)
        assert not [found for found in wrong(self.check(url)) if found.subject == "table rights"]
        assert "secret" not in repr(found)

    @pytest.fixture
    def role(self, database_url: str) -> Iterator[str]:
        """A database user who owns nothing."""
        name = f"doctor_{uuid4().hex}"
        with closing(psycopg2.connect(database_url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
        yield name
        close_database()
        with closing(psycopg2.connect(database_url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")

    def test_has_too_few_connections(self, database_url: str) -> None:
        found = only(self.check(database_url, processes=100, threads=16))

        assert found.what.startswith(
            "the workers may need 2000 (100 processes with 16 threads), max_connections leaves"
        )
        assert found.mend.startswith("ALTER SYSTEM SET max_connections = ")

    def test_is_used_by_a_role_with_a_lower_limit(self, database_url: str, role: str) -> None:
        with closing(psycopg2.connect(database_url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(f"GRANT graphnode_worker TO {role}; ALTER ROLE {role} CONNECTION LIMIT 5")

        found = only(self.check(self.as_role(database_url, role), processes=1, threads=8))

        assert found.what == f"the workers may need 12 (1 processes with 8 threads), the limit of the role {role} is 5"
        assert found.mend == f'ALTER ROLE "{role}" CONNECTION LIMIT 12;'

    def test_refuses_a_role_that_has_all_its_connections(
        self, database_url: str, role: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connections, "FREE_WAIT_S", 0.1)
        with closing(psycopg2.connect(database_url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(f"ALTER ROLE {role} CONNECTION LIMIT 0")

        found = only(self.check(self.as_role(database_url, role)))

        assert found.what == f"all connections that the role {role} may have are taken"
        assert found.mend.startswith(f'ALTER ROLE "{role}" CONNECTION LIMIT')

    @staticmethod
    def as_role(database_url: str, role: str) -> str:
        """The database's URL for another user."""
        url = urlsplit(database_url)
        return url._replace(netloc=f"{role}:secret@{url.netloc.rpartition('@')[2]}").geturl()

    def test_takes_a_connection_and_never_answers(self) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as silent:
            url = f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/db?connect_timeout=2"

            found = only(self.check(url))

        assert found.what.endswith("accepts the connection, and does not answer")


class TestFirebase:
    @staticmethod
    def check(fcm: FcmServer, **changes: Any) -> Finding:
        known = {"firebase_credentials_json": fcm.credentials_json, "fcm_endpoint": fcm.url, **changes}
        (found,) = check_firebase(PushSettings(**known))
        return found

    @pytest.mark.parametrize("answer", [fcm_stub.INVALID_TOKEN, fcm_stub.UNREGISTERED])
    def test_takes_pushes_when_it_refuses_only_the_device(
        self, fcm: FcmServer, monkeypatch: pytest.MonkeyPatch, answer: fcm_stub.Answer
    ) -> None:
        monkeypatch.setattr(fcm, "answer", lambda _: answer)

        assert self.check(fcm).severity is Severity.FINE

    def test_refuses_the_account(self, fcm: FcmServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fcm, "answer", lambda _: fcm_stub.DENIED)

        found = self.check(fcm)

        assert found.what == "the service account may not send pushes in local"
        assert found.mend.startswith(
            "gcloud projects add-iam-policy-binding local --member serviceAccount:worker@local"
        )

    def test_gives_no_token_for_a_key_that_was_deleted(self, fcm: FcmServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fcm, "token_refusal", (400, {"error": "invalid_grant", "error_description": "no key"}))

        found = self.check(fcm)

        assert found.what == "Google gives no token for the service account's key"
        assert "invalid_grant" in found.why

    def test_is_not_asked_with_a_wrong_key(self, fcm: FcmServer) -> None:
        found = self.check(fcm, firebase_credentials_json='{"type": "service_account"}')

        assert found.severity is Severity.BROKEN
        assert found.what == "FIREBASE_CREDENTIALS_JSON is not the key of a Firebase service account"


class TestCommand:
    @pytest.fixture
    def run(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
        """Run the command in this environment alone. Returns its exit code and its standard output."""

        def run(environment: Environment, *arguments: str) -> tuple[int, str]:
            for name in [*environment, "GRAPHNODE_TYPO"]:
                monkeypatch.delenv(name, raising=False)
            for name, value in environment.items():
                monkeypatch.setenv(name, value)
            ended = CliRunner().invoke(doctor, arguments)
            assert ended.exception is None or isinstance(ended.exception, SystemExit)
            return ended.exit_code, ended.stdout

        return run

    def test_a_sound_deployment_is_healthy(
        self, run: Callable[..., tuple[int, str]], stack_env: Environment, fcm: FcmServer
    ) -> None:
        code, output = run({**as_worker(stack_env), **fcm.environment}, "--processes", "1", "--threads", "4")

        assert code == 0, output
        marks = {line[2:20].rstrip(): line[0] for line in output.splitlines()[:-2] if not line.startswith(" ")}
        assert marks.pop("running workers") == "-"
        assert set(marks.values()) == {"✓"}
        assert output.splitlines()[-1] == "1 not checked, 14 fine."

    def test_all_faults_of_a_deployment_are_reported_and_no_secret(
        self, run: Callable[..., tuple[int, str]], stack_env: Environment
    ) -> None:
        broken = {
            **stack_env,
            "DATABASE_URL": "postgresql://me:hunter2@127.0.0.1:1/db",
            "S3_PAYLOAD_BUCKET": "Not A Bucket",
            "FIREBASE_CREDENTIALS_JSON": '{"private_key": "hunter3"}',
            "GRAPHNODE_TYPO": "1",
        }

        code, output = run(broken, "--json")

        found = {(row["subject"], row["severity"]) for row in json.loads(output)}
        assert code == 2
        assert found >= {
            ("settings", "broken"),
            ("database", "broken"),
            ("S3 bucket", "unchecked"),
            ("spool directory", "fine"),
            ("FCM", "broken"),
            ("result queue", "fine"),
            ("clock", "fine"),
            ("schema", "unchecked"),
            ("table rights", "unchecked"),
            ("connections", "unchecked"),
            ("running workers", "unchecked"),
        }
        assert "hunter" not in output


def test_a_worker_is_among_the_processes_from_its_start_to_its_stop(ai: AiServer, start_worker: StartWorker) -> None:
    worker = start_worker(GRAPHNODE_SWEEP_INTERVAL="0.2")
    ai.wait_until("SELECT 1 FROM workers WHERE threads = 4 AND seen_at > started_at + interval '0.3 seconds'")

    worker.stop()

    assert ai.rows("SELECT * FROM workers") == []
