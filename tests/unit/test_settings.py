from __future__ import annotations

import pytest
from psycopg2.extensions import parse_dsn

from graphnode.errors import SettingsError
from graphnode.settings import (
    LogSettings,
    RequestSettings,
    Settings,
    environment_name,
    read_log_settings,
    read_settings,
)

COMPLETE = {
    "DATABASE_URL": "postgresql://graphnode:hunter2@db:5432/graphnode",
    "AWS_REGION": "eu-central-1",
    "SQS_RESULT_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/graphnode-results",
    "S3_PAYLOAD_BUCKET": "graphnode-payloads",
}


def faults_of(environment: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        read_settings(environment, Settings)
    return str(caught.value)


def test_a_complete_environment_gives_settings_with_the_documented_defaults() -> None:
    settings = read_settings(COMPLETE, Settings)

    assert settings.s3_payload_bucket == "graphnode-payloads"
    assert (settings.visibility_timeout, settings.poll_wait, settings.poll_grace) == (60, 20, 20.0)
    assert (settings.max_attempts, settings.max_document_bytes) == (8, 64 << 20)


def test_own_settings_carry_the_prefix_and_are_converted() -> None:
    settings = read_settings({**COMPLETE, "GRAPHNODE_POLL_GRACE": "1", "GRAPHNODE_MAX_ATTEMPTS": "3"}, Settings)

    assert (settings.poll_grace, settings.max_attempts) == (1.0, 3)
    assert environment_name("max_attempts") == "GRAPHNODE_MAX_ATTEMPTS"
    assert environment_name("database_url") == "DATABASE_URL"


def test_all_faults_are_reported_at_once_each_with_its_name_and_the_given_and_expected_value() -> None:
    text = faults_of({**COMPLETE, "AWS_REGION": "", "GRAPHNODE_MAX_ATTEMPTS": "eight", "S3_PAYLOAD_BUCKET": "Not OK"})

    assert text.startswith("3 settings are wrong:")
    assert "AWS_REGION is missing: set it to an AWS region such as eu-central-1." in text
    assert "GRAPHNODE_MAX_ATTEMPTS is 'eight'; expected a number from 1 to 100" in text
    assert "S3_PAYLOAD_BUCKET is 'Not OK'; expected an S3 bucket's name." in text


@pytest.mark.parametrize("name", ["DATABASE_URL", "FIREBASE_CREDENTIALS_JSON"])
def test_secrets_are_never_shown(name: str) -> None:
    text = faults_of({**COMPLETE, name: "mysql://graphnode:hunter2@db"})

    assert name in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://graphnode:hunter2/hunter3@db:5432/graphnode",
        "postgresql://graphnode:12/hunter3@db:5432/graphnode",
        "postgresql://graphnode:12/hunter3?hunter4=x@db:5432/graphnode",
        "postgresql://graphnode:hunter2@hunter3@db:5432/graphnode",
        "postgresql://graphnode:hunter2%hunter3@db:5432/graphnode",
        "postgresql://graphnode:hunter2",
        "postgresql://graphnode:hunter2@db:hunter3/graphnode",
        "postgresql://graphnode:hunter2 @db/graphnode",
        "postgresql://graphnode:@[hunter2/graphnode",
    ],
)
def test_a_database_url_whose_password_ends_early_is_refused_and_not_shown(url: str) -> None:
    text = faults_of({**COMPLETE, "DATABASE_URL": url})

    assert text.startswith(
        "1 setting is wrong:\n  - DATABASE_URL is a value that is not shown here; expected a PostgreSQL"
    )
    assert "@ is written %40" in text
    assert "hunter" not in text


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db/graphnode",
        "postgres://graphnode@db",
        "postgresql:///graphnode?host=/var/run/postgresql&sslmode=disable",
        "postgresql://graphnode:p%40ss%2Fw:o?r#d@db-1.internal:5432,[::1]:5433/graph%20node?target_session_attrs=primary",
        "postgresql://graphnode:@%2Fvar%2Frun%2Fpostgresql:5432/graphnode?options=-c%20search_path%3Da",
    ],
)
def test_what_libpq_takes_for_a_database_url_is_accepted(url: str) -> None:
    assert read_settings({**COMPLETE, "DATABASE_URL": url}, Settings).database_url == url
    assert parse_dsn(url)


@pytest.mark.parametrize(
    "name", ["AWS_ENDPOINT_URL", "SQS_RESULT_QUEUE_URL", "SQS_REQUEST_QUEUE_URL", "GRAPHNODE_FCM_ENDPOINT"]
)
@pytest.mark.parametrize(
    "url",
    [
        "https://me:hunter2@localhost:4566/queue",
        "https://hunter2@localhost:4566/queue",
        "https://me:hunter2/hunter3@localhost/queue",
        "https://localhost:hunter2/a@b/queue",
    ],
)
def test_an_address_with_a_password_is_refused_and_not_shown(name: str, url: str) -> None:
    text = faults_of({**COMPLETE, name: url})

    assert text.startswith(f"1 setting is wrong:\n  - {name} is a value that is not shown here; expected a ")
    assert "hunter" not in text


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "SQS_RESULT_QUEUE_URL", "GRAPHNODE_FCM_ENDPOINT"])
def test_a_port_that_is_no_number_is_refused(name: str) -> None:
    assert f"{name} is 'http://localhost:https/queue'; expected" in faults_of(
        {**COMPLETE, name: "http://localhost:https/queue"}
    )


def test_a_sentry_dsn_with_a_raw_character_in_its_key_is_refused_and_not_shown() -> None:
    assert "hunter" not in faults_of({**COMPLETE, "SENTRY_DSN": "https://key:hunter2@hunter3@sentry.io/1"})
    assert read_settings({**COMPLETE, "SENTRY_DSN": "https://key@o1.ingest.sentry.io/1"}, Settings).sentry_dsn


def test_a_setting_out_of_its_range_is_refused() -> None:
    assert "GRAPHNODE_POLL_WAIT is '21'; expected 1 to 20 seconds" in faults_of(
        {**COMPLETE, "GRAPHNODE_POLL_WAIT": "21"}
    )


def test_a_fifo_queue_is_refused() -> None:
    name = "SQS_RESULT_QUEUE_URL"
    text = faults_of({**COMPLETE, name: f"{COMPLETE[name]}.fifo"})

    assert text.startswith("1 setting is wrong:")
    assert f"{name} is '{COMPLETE[name]}.fifo', a FIFO queue" in text
    assert "Create a standard queue" in text


def test_one_queue_for_two_purposes_is_refused() -> None:
    name = "SQS_REQUEST_QUEUE_URL"
    text = faults_of({**COMPLETE, name: COMPLETE["SQS_RESULT_QUEUE_URL"]})

    assert text.startswith("1 setting is wrong:")
    assert f"SQS_RESULT_QUEUE_URL and {name} are the same queue" in text


@pytest.mark.parametrize("url", ["", "https://sqs.eu-central-1.amazonaws.com/1/old", "no URL"])
def test_the_queue_of_the_previous_release_is_accepted_and_not_used(url: str) -> None:
    assert read_settings({**COMPLETE, "SQS_NOTIFICATION_QUEUE_URL": url}, Settings) == read_settings(COMPLETE, Settings)


def test_an_invalid_timeout_is_refused_with_examples() -> None:
    text = faults_of({**COMPLETE, "GRAPHNODE_TASK_TIMEOUT": "2 hours"})
    assert "GRAPHNODE_TASK_TIMEOUT is '2 hours'; expected a duration such as 2h, 90m or 1d" in text


def test_a_process_that_makes_requests_needs_only_their_settings_and_may_have_its_own() -> None:
    needed = {"SQS_REQUEST_QUEUE_URL": COMPLETE["SQS_RESULT_QUEUE_URL"], "GRAPHNODE_OF_ITS_OWN": "1"}
    given = {name: COMPLETE[name] for name in ("DATABASE_URL", "AWS_REGION")}

    assert read_settings({**given, **needed}, RequestSettings).sqs_request_queue_url == COMPLETE["SQS_RESULT_QUEUE_URL"]
    assert "hunter2" not in repr(read_settings({**given, **needed}, RequestSettings))
    with pytest.raises(SettingsError, match=r"1 setting is wrong:\n  - SQS_REQUEST_QUEUE_URL is missing"):
        read_settings(given, RequestSettings)


def test_a_misspelt_graphnode_setting_is_refused() -> None:
    assert "GRAPHNODE_MAX_ATEMPTS is not a setting" in faults_of({**COMPLETE, "GRAPHNODE_MAX_ATEMPTS": "3"})


def test_an_empty_optional_setting_counts_as_not_set() -> None:
    assert read_settings({**COMPLETE, "AWS_ENDPOINT_URL": ""}, Settings).aws_endpoint_url is None


def test_settings_do_not_show_their_values() -> None:
    assert "hunter2" not in repr(read_settings(COMPLETE, Settings))


def test_log_settings_are_read_even_if_other_settings_are_wrong() -> None:
    environment = {"GRAPHNODE_LOG_FORMAT": "console", "GRAPHNODE_LOG_LEVEL": "loud", "AWS_REGION": "nowhere"}

    assert read_log_settings(environment) == LogSettings(log_format="console", log_level="info")
