"""How the doctor judges what services say. No server is asked."""

from __future__ import annotations

import json
import shlex
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from graphnode.operations.doctor.aws_answers import judge_refusal, queue_arn, region_of
from graphnode.operations.doctor.checks import Check, run_checks
from graphnode.operations.doctor.clock_check import judge_clocks
from graphnode.operations.doctor.database_check import (
    DatabaseInfo,
    Fleet,
    accepts_connections,
    fleet_of,
    judge_connection,
    judge_database,
)
from graphnode.operations.doctor.findings import (
    Finding,
    Severity,
    broken,
    fine,
    unchecked,
    warning,
    with_place,
    without_secrets,
    worst,
)
from graphnode.operations.doctor.queue_check import RedriveTarget, SourceQueue, judge_missing_queue, judge_queue
from graphnode.operations.doctor.settings_check import judge_settings, secrets_of
from graphnode.operations.doctor.spool_check import check_spool

SOURCE, TARGET = "arn:aws:sqs:eu-central-1:1:results", "arn:aws:sqs:eu-central-1:1:results-dlq"

SOUND = DatabaseInfo(
    version=170004,
    is_read_only=False,
    user="worker",
    name="graphnode",
    usable_connections=97,
    others_connections=7,
    user_limit=None,
    database_limit=None,
    has_extension=True,
    extension_is_available=True,
)


def queue(
    *, source: dict[str, str] | None = None, dead: dict[str, str] | None = None, receives: int = 50
) -> SourceQueue:
    policy = json.dumps({"deadLetterTargetArn": TARGET, "maxReceiveCount": receives})
    return SourceQueue(
        subject="result queue",
        url="https://sqs.eu-central-1.amazonaws.com/1/results",
        arn=SOURCE,
        attributes={"RedrivePolicy": policy, "MessageRetentionPeriod": "345600", **(source or {})},
        dead_letters=RedriveTarget(
            arn=TARGET, url="https://dlq", attributes={"MessageRetentionPeriod": "1209600", **(dead or {})}
        ),
    )


def wrong(findings: list[Finding]) -> list[Finding]:
    return [found for found in findings if found.severity > 0]


class TestQueues:
    def test_a_sound_one_has_nothing_wrong(self) -> None:
        assert wrong(judge_queue(queue(), max_attempts=8)) == []

    @pytest.mark.parametrize(
        ("facts", "what", "mend"),
        [
            (queue(source={"MessageRetentionPeriod": "3600"}), "keeps messages for 1 hour only", "345600"),
            (
                queue(source={"VisibilityTimeout": "43200"}),
                "hides a received message for 12 hours",
                "VisibilityTimeout",
            ),
            (queue(dead={"MessageRetentionPeriod": "345600"}), "for 4 days, its source for 4 days", "1209600"),
            (
                queue(source={"MessageRetentionPeriod": "1209600"}),
                "for 14 days, its source for 14 days",
                'amazonaws.com/1/results --attributes \'{"MessageRetentionPeriod":"345600"}\'',
            ),
            (queue(receives=5), "after 5 receives, the worker gives up after 8 failures", '\\"24\\"'),
            (
                queue(dead={"RedrivePolicy": json.dumps({"deadLetterTargetArn": "arn:aws:sqs:eu:1:other"})}),
                "has a redrive policy of its own, to other",
                '"RedrivePolicy":""',
            ),
            (
                queue(dead={"RedriveAllowPolicy": '{"redrivePermission": "denyAll"}'}),
                "takes nothing from results (RedriveAllowPolicy: denyAll)",
                "byQueue",
            ),
            (
                queue(dead={"MaximumMessageSize": "1024"}),
                "takes smaller messages than its source",
                "MaximumMessageSize",
            ),
        ],
    )
    def test_each_fault_has_its_sentence_and_its_command(self, facts: SourceQueue, what: str, mend: str) -> None:
        (found,) = wrong(judge_queue(facts, max_attempts=8))

        assert what in found.what
        assert mend in found.mend
        assert found.mend.startswith("aws sqs set-queue-attributes --queue-url https://")
        assert found.severity is Severity.WARNING

    def test_a_dead_letter_queue_that_takes_the_source_by_name_is_right(self) -> None:
        allowed = json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": [SOURCE]})

        assert wrong(judge_queue(queue(dead={"RedriveAllowPolicy": allowed}), max_attempts=8)) == []

    @pytest.mark.parametrize(
        ("facts", "subject", "what", "mend"),
        [
            (
                msgspec.structs.replace(queue(), dead_letters=None),
                "result DLQ",
                "has no redrive policy",
                "RedrivePolicy",
            ),
            (
                msgspec.structs.replace(queue(), dead_letters=RedriveTarget(arn=SOURCE, url="https://q")),
                "result DLQ",
                "is its own dead-letter queue",
                "create-queue --queue-name results-dlq",
            ),
            (
                msgspec.structs.replace(queue(), dead_letters=RedriveTarget(arn=f"{TARGET}.fifo", url="https://q")),
                "result DLQ",
                "the dead-letter queue results-dlq.fifo is a FIFO queue",
                "results-dlq\\",
            ),
            (
                msgspec.structs.replace(queue(), dead_letters=RedriveTarget(arn=TARGET)),
                "result DLQ",
                "the dead-letter queue results-dlq does not exist",
                "aws sqs create-queue --queue-name results-dlq",
            ),
            (
                msgspec.structs.replace(queue(), dead_letters=RedriveTarget(arn=TARGET, is_denied=True)),
                "result DLQ",
                "not allowed to look at results-dlq",
                '"sqs:GetQueueUrl"',
            ),
            (
                msgspec.structs.replace(queue(), denied=("sqs:ReceiveMessage",)),
                "result rights",
                "not allowed: sqs:ReceiveMessage",
                f'"Resource": "{SOURCE}"',
            ),
            (
                msgspec.structs.replace(queue(), dead_letters_denied=("sqs:SendMessage",)),
                "result DLQ",
                "not allowed: sqs:SendMessage to results-dlq",
                f'"Resource": "{TARGET}"',
            ),
            (
                msgspec.structs.replace(queue(), arn=f"{SOURCE}.fifo"),
                "result queue",
                "results.fifo is a FIFO queue",
                "--queue-name results",
            ),
        ],
    )
    def test_a_fault_that_stops_the_worker_is_broken(
        self, facts: SourceQueue, subject: str, what: str, mend: str
    ) -> None:
        (found,) = wrong(judge_queue(facts, max_attempts=8))

        assert (found.subject, found.severity) == (subject, Severity.BROKEN)
        assert what in found.what
        assert mend in found.mend


class TestRefusals:
    @pytest.mark.parametrize(
        ("code", "message", "what", "mend"),
        [
            ("AccessDenied", "no", "not allowed: sqs:SendMessage", '"Action": ['),
            ("InvalidClientTokenId", "no", "AWS does not accept the credentials", "aws sts get-caller-identity"),
            ("ExpiredToken", "no", "AWS does not accept the credentials", "aws sts get-caller-identity"),
            ("RequestTimeTooSkewed", "no", "this machine's clock is wrong", "chronyc"),
            (
                "SignatureDoesNotMatch",
                "Signature expired: 2026 is now earlier",
                "this machine's clock is wrong",
                "chronyc",
            ),
            ("KMS.AccessDeniedException", "no", "the KMS key may not be used", '"kms:Decrypt"'),
            ("AccessDenied", "not authorized to perform: kms:Decrypt", "the KMS key may not be used", '"kms:Decrypt"'),
        ],
    )
    def test_each_means_the_same_for_all_calls(self, code: str, message: str, what: str, mend: str) -> None:
        error = ClientError({"Error": {"Code": code, "Message": message}}, "SendMessage")

        found = judge_refusal("q", error, actions=["sqs:SendMessage"], resource=SOURCE)

        assert found is not None
        assert what in found.what
        assert mend in found.mend

    def test_an_error_about_what_was_asked_for_is_no_refusal(self) -> None:
        error = ClientError({"Error": {"Code": "NoSuchKey", "Message": "no"}}, "GetObject")

        assert judge_refusal("b", error, actions=["s3:GetObject"], resource="arn:aws:s3:::b/*") is None

    def test_the_region_is_read_from_urls_of_aws_only(self) -> None:
        assert region_of("https://sqs.eu-central-1.amazonaws.com/1/q") == "eu-central-1"
        assert region_of("https://eu-central-1.queue.amazonaws.com/1/q") == "eu-central-1"
        assert region_of("http://localhost:4566/000000000000/q") is None
        assert queue_arn("http://localhost:4566/000000000000/q", region="us-east-1") == (
            "arn:aws:sqs:us-east-1:000000000000:q"
        )

    def test_a_missing_queue_is_made_after_its_dead_letter_queue(self) -> None:
        gone: Any = {"Error": {"Code": "AWS.SimpleQueueService.NonExistentQueue", "Message": "no"}}

        found = judge_missing_queue(
            "result queue", "https://q", SOURCE, ClientError(gone, "GetQueueAttributes"), max_attempts=8
        )

        dead, source = map(shlex.split, found.mend.split("\n"))
        assert dead[:5] == ["aws", "sqs", "create-queue", "--queue-name", "results-dlq"]
        assert source[:5] == ["aws", "sqs", "create-queue", "--queue-name", "results"]
        policy = json.loads(json.loads(source[source.index("--attributes") + 1])["RedrivePolicy"])
        assert policy == {"deadLetterTargetArn": TARGET, "maxReceiveCount": "24"}

    def test_a_server_that_is_silent_is_not_one_that_cannot_be_reached(self) -> None:
        error = ReadTimeoutError(endpoint_url="https://sqs")

        found = judge_refusal("result queue", error, actions=[], resource=SOURCE)

        assert found is not None
        assert found.what.startswith("AWS accepts the connection, and does not answer")

    def test_each_aws_command_names_region_and_endpoint_once(self) -> None:
        mend = "aws sqs list-queues\naws s3api head-bucket --bucket b --region x\npg_isready -h host"

        (found,) = with_place([broken("a", "", mend=mend)], region="eu", endpoint_url="http://h:1")

        assert found.mend.split("\n") == [
            "aws sqs list-queues --region eu --endpoint-url http://h:1",
            "aws s3api head-bucket --bucket b --region x --endpoint-url http://h:1",
            "pg_isready -h host",
        ]


class TestDatabase:
    def test_a_server_that_accepts_a_connection_is_behind_no_firewall(self, silent_port: int) -> None:
        url = f"postgresql://me@127.0.0.1:{silent_port}/db"

        found = judge_connection("timeout expired", url, is_accepted=accepts_connections(url))

        assert found is not None
        assert found.what == f"127.0.0.1:{silent_port} accepts the connection, and does not answer"
        assert "firewall" not in found.why
        assert not accepts_connections("postgresql://me@127.0.0.1:9/db")

    @pytest.mark.parametrize(
        ("said", "what", "mend"),
        [
            ('FATAL:  password authentication failed for user "me"', "does not accept the password of me", "psql"),
            ('FATAL:  database "db" does not exist', "there is no database db on host", "createdb -h host -p 5433 db"),
            ('FATAL:  role "me" does not exist', "there is no user me on host", "createuser"),
            ('could not translate host name "host" to address', "the name host is unknown to DNS", "getent hosts host"),
            ('FATAL:  no pg_hba.conf entry for host "10.0.0.1"', "takes no connection of me", "pg_hba.conf"),
            ("FATAL:  remaining connection slots are reserved", "connections are taken", "max_connections"),
            ("FATAL:  sorry, too many clients already", "connections are taken", "max_connections"),
            (
                'FATAL:  too many connections for role "me"',
                "that the role me may have",
                'ALTER ROLE "me" CONNECTION LIMIT',
            ),
            (
                'FATAL:  too many connections for database "db"',
                "that the database db may have",
                'ALTER DATABASE "db" CONNECTION LIMIT',
            ),
            ("connection to server failed: Connection refused", "nobody listens at host:5433", "pg_isready"),
            ("connection to server failed: timeout expired", "host:5433 does not answer", "pg_isready"),
        ],
    )
    def test_a_connection_that_fails_says_why(self, said: str, what: str, mend: str) -> None:
        found = judge_connection(said, "postgresql://me:secret@host:5433/db")

        assert found is not None
        assert what in found.what
        assert mend in found.mend
        assert "secret" not in repr(found)

    def test_a_sound_one_has_nothing_wrong(self) -> None:
        findings = judge_database(SOUND, Fleet(40, "4 processes with 8 threads"))

        assert [found.severity for found in findings] == [Severity.FINE] * 4

    @pytest.mark.parametrize(
        ("changes", "subject", "severity", "what", "mend"),
        [
            ({"version": 120003}, "database", Severity.BROKEN, "PostgreSQL 12 is too old", "pg_upgrade"),
            ({"is_read_only": True}, "database", Severity.BROKEN, "graphnode is read-only", "pg_promote"),
            (
                {"has_extension": False},
                "pgvector",
                Severity.BROKEN,
                "is not in the database",
                "CREATE EXTENSION vector",
            ),
            (
                {"has_extension": False, "extension_is_available": False},
                "pgvector",
                Severity.BROKEN,
                "server has no extension vector",
                "apt install postgresql-17-pgvector",
            ),
            (
                {"schema_fault": "The database is older than this worker, it lacks 0004: run `graphnode migrate`."},
                "schema",
                Severity.BROKEN,
                "it lacks 0004",
                "graphnode migrate",
            ),
            (
                {"lacking": {"tasks": ["INSERT", "UPDATE"]}},
                "table rights",
                Severity.BROKEN,
                "worker may not INSERT, UPDATE on tasks",
                'GRANT INSERT, UPDATE ON tasks TO "worker";',
            ),
            (
                {"usable_connections": 40},
                "connections",
                Severity.WARNING,
                "the workers may need 40 (4 processes with 8 threads), max_connections leaves 33",
                "ALTER SYSTEM SET max_connections = 80",
            ),
            (
                {"user_limit": 10},
                "connections",
                Severity.WARNING,
                "the limit of the role worker is 10",
                'ALTER ROLE "worker" CONNECTION LIMIT 40;',
            ),
            (
                {"user": "graphnode", "user_limit": 20, "database_limit": 10},
                "connections",
                Severity.WARNING,
                "the limit of the database graphnode is 10",
                'ALTER DATABASE "graphnode" CONNECTION LIMIT 40;',
            ),
        ],
    )
    def test_each_fault_has_its_sentence_and_its_command(
        self, changes: dict[str, Any], subject: str, severity: Severity, what: str, mend: str
    ) -> None:
        facts = msgspec.structs.replace(SOUND, **changes)

        (found,) = wrong(judge_database(facts, Fleet(40, "4 processes with 8 threads")))

        assert (found.subject, found.severity) == (subject, severity)
        assert what in found.what
        assert mend in found.mend

    def test_connections_are_counted_as_given_or_as_they_run_or_by_dramatiqs_defaults(self) -> None:
        running = msgspec.structs.replace(SOUND, running_threads=[4, 16])

        assert fleet_of(running, processes=None, threads=None, cores=2) == Fleet(28, "2 running processes")
        assert fleet_of(running, processes=3, threads=4, cores=2) == Fleet(24, "3 processes with 4 threads")
        assert fleet_of(SOUND, processes=None, threads=None, cores=2) == Fleet(
            24, "2 processes with 8 threads, Dramatiq's defaults"
        )


class TestSettings:
    def test_all_faults_are_reported_at_once(self) -> None:
        faults = ["AWS_REGION is missing: set it.", "GRAPHNODE_TYPO is not a setting of this program: unset it."]

        findings = judge_settings({}, faults)

        assert [found.mend for found in findings] == ["export AWS_REGION=…", "unset GRAPHNODE_TYPO"]
        assert worst(findings) is Severity.BROKEN

    @pytest.mark.parametrize(
        ("values", "what"),
        [
            (
                {"aws_region": "eu-west-1", "sqs_result_queue_url": "https://sqs.eu-central-1.amazonaws.com/1/q"},
                "SQS_RESULT_QUEUE_URL is a queue in eu-central-1, AWS_REGION is eu-west-1",
            ),
            ({"visibility_timeout": 5}, "GRAPHNODE_VISIBILITY_TIMEOUT is 5 s"),
            ({"backoff_min": 60.0, "backoff_max": 30.0}, "(60 s) is over GRAPHNODE_BACKOFF_MAX (30 s)"),
        ],
    )
    def test_right_values_that_do_not_fit_together_are_reported(self, values: dict[str, Any], what: str) -> None:
        (found,) = wrong(judge_settings(values, []))

        assert what in found.what
        assert found.mend

    def test_no_secret_is_in_any_text(self) -> None:
        environment = {"DATABASE_URL": "postgresql://me:p%40ss@h/db", "AWS_SECRET_ACCESS_KEY": "key123"}
        findings = [broken("x", "p@ss", why="p%40ss key123", mend="postgresql://me:p%40ss@h/db")]

        (found,) = without_secrets(findings, secrets_of(environment))

        assert (found.what, found.why, found.mend) == ("***", "*** ***", "***")


class TestClocks:
    @pytest.mark.parametrize(
        ("skews", "severity", "what"),
        [
            ({}, Severity.UNCHECKED, "neither AWS nor the database"),
            ({"S3": 0.4, "the database": -0.1}, Severity.FINE, "within 1 s of S3 and the database"),
            ({"S3": 45.0}, Severity.WARNING, "this machine's clock is 45 s ahead of that of S3"),
            ({"S3": -600.0, "SQS": -599.0}, Severity.BROKEN, "this machine's clock is 10 min behind that of S3"),
            ({"S3": 0.4, "the database": -90.0}, Severity.WARNING, "the database's clock is 90 s off"),
        ],
    )
    def test_a_wrong_clock_is_reported_with_its_difference(
        self, skews: dict[str, float], severity: Severity, what: str
    ) -> None:
        (found,) = judge_clocks({name: timedelta(seconds=skew) for name, skew in skews.items()})

        assert found.severity is severity
        assert what in found.what


class TestChecks:
    def test_a_failed_check_stops_only_those_that_need_it(self) -> None:
        def fail() -> list[Finding]:
            raise ConnectionError("cut")

        findings = run_checks(
            [
                Check("late", lambda: [fine("late", "never reached")], needs=("bad",)),
                Check("later", lambda: [fine("later", "never reached")], needs=("late",)),
                Check("bad", fail),
                Check("good", lambda: [fine("good", "well")]),
                Check("after", lambda: [fine("after", "well")], needs=("good",)),
                Check("unset", fail, missing="X is missing"),
            ]
        )

        assert [(found.subject, found.severity.name, found.what) for found in findings] == [
            ("late", "UNCHECKED", "not checked: that needs bad first"),
            ("later", "UNCHECKED", "not checked: that needs late first"),
            ("bad", "BROKEN", "cannot be checked: ConnectionError: cut"),
            ("good", "FINE", "well"),
            ("after", "FINE", "well"),
            ("unset", "UNCHECKED", "not checked: X is missing"),
        ]

    def test_what_a_check_did_not_get_to_is_reported_as_not_checked(self) -> None:
        covers = ("rights", "DLQ")

        findings = run_checks(
            [
                Check("half", lambda: [broken("half", "gone"), fine("DLQ", "there")], covers=covers),
                Check("after", lambda: [fine("after", "never reached")], needs=("half",), covers=("more",)),
                Check("whole", lambda: [fine(name, "well") for name in ("whole", *covers)], covers=covers),
            ]
        )

        assert [(found.subject, found.severity.name) for found in findings] == [
            ("half", "BROKEN"),
            ("DLQ", "FINE"),
            ("rights", "UNCHECKED"),
            ("after", "UNCHECKED"),
            ("more", "UNCHECKED"),
            ("whole", "FINE"),
            ("rights", "FINE"),
            ("DLQ", "FINE"),
        ]

    def test_a_check_that_hangs_is_abandoned_and_reported(self) -> None:
        let_go = threading.Event()

        def hang() -> list[Finding]:
            let_go.wait()
            return []

        slow: list[str] = []
        findings = run_checks(
            [Check("slow", hang), Check("good", lambda: [fine("good", "well")])], timeout_s=0.05, on_slow=slow.extend
        )
        let_go.set()

        assert slow == ["slow"]

        assert [(found.subject, found.what) for found in findings] == [
            ("slow", "no answer within 0.05 s"),
            ("good", "well"),
        ]
        assert "firewall" not in findings[0].why

    def test_the_exit_code_is_the_worst_severity(self) -> None:
        assert worst([fine("a", ""), unchecked("b", "")]) == 0
        assert worst([fine("a", ""), warning("b", "")]) == 1
        assert worst([warning("a", ""), broken("b", "")]) == 2


def test_a_spool_directory_without_room_is_broken(tmp_path: Path) -> None:
    (roomy,) = check_spool(str(tmp_path), max_features_bytes=1024)
    (small,) = check_spool(str(tmp_path), max_features_bytes=5 << 60)

    assert roomy == fine("spool directory", f"{tmp_path} has room for a features file")
    assert (small.severity, small.mend) == (Severity.BROKEN, "export GRAPHNODE_SPOOL_DIR=…")
