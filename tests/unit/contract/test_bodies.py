from __future__ import annotations

import json
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.contract.bodies import ids_of_body, lane_of_body, to_message
from graphnode.contract.envelopes import (
    AddNodeResult,
    Envelope,
    GraphGenerationProgress,
    GraphGenerationResult,
    MicroscopeIngestResult,
    field_name,
)
from graphnode.contract.requests import REQUESTS
from graphnode.contract.task_ids import parse_task_id
from graphnode.errors import InvalidEnvelope, MisplacedRequest, PermanentError, UnknownTaskType
from tests.any_value import ANY_VALUE, PAYLOADS

SENT_AT = datetime(2026, 5, 24, 8, 0, tzinfo=UTC)


def body(task_type: str, payload: dict[str, Any], **fields: Any) -> str:
    return json.dumps({"taskType": task_type, "taskId": "t-1", "payload": payload, **fields})


def decode(text: str) -> Envelope[Any]:
    message = to_message(text, message_id="m-1", sent_at=SENT_AT, receive_count=2)
    (envelope,) = message.args
    assert isinstance(envelope, Envelope)
    return envelope


def refusal(text: str) -> str:
    with pytest.raises(PermanentError) as caught:
        decode(text)
    return str(caught.value)


@pytest.mark.parametrize(
    "payload",
    [
        {"userId": "u-1", "status": "COMPLETED", "resultS3Key": "r", "featuresS3Key": "f", "summaryIncluded": True},
        {
            "user_id": "u-1",
            "status": "COMPLETED",
            "result_s3_key": "r",
            "features_s3_key": "f",
            "summary_included": True,
        },
    ],
    ids=["camelCase", "snake_case"],
)
def test_both_spellings_of_a_payload_are_the_same(payload: dict[str, Any]) -> None:
    assert decode(body("GRAPH_GENERATION_RESULT", payload)).payload == GraphGenerationResult(
        user_id="u-1", status="COMPLETED", result_s3_key="r", features_s3_key="f", summary_included=True
    )


@pytest.mark.parametrize(("type_key", "id_key"), [("taskType", "taskId"), ("task_type", "task_id")])
def test_an_envelopes_own_fields_are_read_in_either_spelling(type_key: str, id_key: str) -> None:
    payload = {"userId": "u-1", "status": "FAILED"}

    envelope = decode(json.dumps({type_key: "ADD_NODE_RESULT", id_key: "t-9", "payload": payload}))

    assert (envelope.task_id, envelope.task_type) == ("t-9", "ADD_NODE_RESULT")


def test_a_byte_order_mark_is_ignored() -> None:
    text = body("ADD_NODE_RESULT", {"userId": "u-1", "status": "FAILED"})

    assert decode("\ufeff" + text) == decode(text)


@pytest.mark.parametrize("empty", [{}, {"featuresS3Key": None}, {"featuresS3Key": ""}], ids=["absent", "null", "empty"])
def test_absent_null_and_empty_mean_not_given(empty: dict[str, Any]) -> None:
    payload = {"userId": "u-1", "status": "COMPLETED", "resultS3Key": "r", **empty}

    assert decode(body("GRAPH_GENERATION_RESULT", payload)).payload.features_s3_key is None


@pytest.mark.parametrize("key", ["groupId", "group_id", "workspaceId", "workspace_id"])
def test_a_workspaces_key_has_four_spellings(key: str) -> None:
    payload = decode(body("MICROSCOPE_INGEST_RESULT", {"status": "COMPLETED", key: "w-1"})).payload

    assert isinstance(payload, MicroscopeIngestResult)
    assert payload.group_id == "w-1"


def test_a_spelling_with_a_value_wins_over_an_empty_one() -> None:
    payload = {"user_id": "", "userId": "u-1", "status": "FAILED"}

    assert decode(body("ADD_NODE_RESULT", payload)).payload.user_id == "u-1"


def test_unknown_fields_are_ignored() -> None:
    text = body("ADD_NODE_RESULT", {"userId": "u-1", "status": "FAILED", "colour": "blue"}, version=3)

    assert decode(text).payload == AddNodeResult(user_id="u-1", status="FAILED")


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        ("2026-05-24T08:02:08.793892", datetime(2026, 5, 24, 8, 2, 8, 793892, UTC)),
        ("2026-05-24T08:02:08Z", datetime(2026, 5, 24, 8, 2, 8, 0, UTC)),
        ("2026-05-24T17:02:08+09:00", datetime(2026, 5, 24, 8, 2, 8, 0, UTC)),
        (None, SENT_AT),
        ("", SENT_AT),
    ],
    ids=["without zone", "Z", "offset", "null", "empty"],
)
def test_timestamps_are_utc_and_sqss_where_missing(timestamp: str | None, expected: datetime) -> None:
    text = body("ADD_NODE_RESULT", {"userId": "u", "status": "FAILED"}, timestamp=timestamp)

    assert decode(text).timestamp == expected


def test_a_missing_timestamp_is_sqss() -> None:
    assert decode(body("ADD_NODE_RESULT", {"userId": "u", "status": "FAILED"})).timestamp == SENT_AT


@pytest.mark.parametrize("ahead", [timedelta(minutes=-1), timedelta(0), timedelta(minutes=5)])
def test_a_clock_that_is_ahead_by_up_to_five_minutes_is_believed(ahead: timedelta) -> None:
    at = SENT_AT + ahead
    envelope = decode(body("ADD_NODE_RESULT", {"userId": "u", "status": "FAILED"}, timestamp=at.isoformat()))

    assert (envelope.timestamp, envelope.warnings) == (at, {})


@pytest.mark.parametrize(
    "timestamp",
    ["2026-05-24T08:05:00.000001Z", "2026-05-24T17:00:00", "2099-01-01T00:00:00Z", "9999-12-31T23:59:59Z"],
    ids=["a little more", "Seoul's local time without zone", "another century", "the end of time"],
)
def test_a_clock_that_is_further_ahead_counts_as_sqss_with_a_warning(timestamp: str) -> None:
    envelope = decode(body("ADD_NODE_RESULT", {"userId": "u", "status": "FAILED"}, timestamp=timestamp))

    assert envelope.timestamp == SENT_AT
    ((warning, count),) = envelope.warnings.items()
    assert warning.startswith(f"timestamp {timestamp.removesuffix('Z')}")
    assert (warning.endswith("is in the future: replaced by SQS's"), count) == (True, 1)


def test_progress_has_the_task_type_of_its_result() -> None:
    envelope = decode(body("GRAPH_GENERATION_PROGRESS", {"userId": "u", "currentStage": "s", "progressPercent": 40}))

    assert envelope.task_type == "GRAPH_GENERATION_RESULT"
    assert envelope.payload == GraphGenerationProgress(user_id="u", current_stage="s", progress_percent=40.0)


def test_the_attempt_is_the_receive_count() -> None:
    assert decode(body("ADD_NODE_RESULT", {"userId": "u", "status": "FAILED"})).attempt == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the body is not JSON"),
        ("nope", "the body is not JSON"),
        ("[" * 100_000, "the body is not JSON"),
        ("[1, 2]", "the body is not a JSON object"),
        ("null", "the body is not a JSON object"),
        ("{}", "taskType: expected a text; it is not given"),
        ('{"taskType": 7}', "taskType: expected a text; it holds '7'"),
        ('{"taskType": "ADD_NODE_RESULT"}', "taskId: expected a text; it is not given"),
        ('{"taskType": "ADD_NODE_RESULT", "taskId": "t"}', "payload: expected an object, got 'null'"),
        (body("ADD_NODE_RESULT", {"status": "FAILED"}), "payload.userId: required, but not given"),
        (
            body("ADD_NODE_RESULT", {"user_id": [5], "status": "FAILED"}),
            "payload.user_id: Expected `str`, got `array`; it holds '[5]'",
        ),
        (
            body("ADD_NODE_RESULT", {"userId": "u", "status": "DONE"}),
            "payload.status: Expected COMPLETED or FAILED; it holds 'DONE'",
        ),
        (
            body("ADD_NODE_RESULT", {"userId": "u", "status": "COMPLETED"}),
            "payload.resultS3Key: required when status is COMPLETED, but not given",
        ),
        (
            body("ADD_NODE_RESULT", {"userId": "u", "status": "COMPLETED", "resultS3Key": 7}),
            "payload.resultS3Key: required when status is COMPLETED, but not given",
        ),
        (body("GRAPH_GENERATION_PROGRESS", {"currentStage": "s"}), "payload.userId: required, but not given"),
        (body("ADD_NODE_RESULT", {"userId": "u\0", "status": "FAILED"}), "payload.userId: Expected `str` matching"),
        (body("ADD_NODE_RESULT", {"status": "FAILED"}, taskId="t\0"), "taskId: it holds the character U+0000"),
        (
            body("ADD_NODE_RESULT", {"userId": "u" * 201, "status": "FAILED"}),
            "payload.userId: Expected `str` of length",
        ),
        (
            json.dumps({"taskType": "ADD_NODE_RESULT", "taskId": "t" * 401, "payload": {}}),
            "taskId: expected at most 400 characters; it has 401",
        ),
    ],
)
def test_a_refused_envelope_says_which_field_and_what_it_holds(text: str, expected: str) -> None:
    assert expected in refusal(text)


ENVELOPE = body("ADD_NODE_RESULT", {"userId": "u", "status": "FAILED"})


@pytest.mark.parametrize(
    ("wrapped", "expected"),
    [
        (
            {"Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:eu-central-1:1:t", "Message": ENVELOPE},
            "the body is an SNS notification: turn on raw message delivery in the topic's subscription",
        ),
        (
            {"version": "0", "detail-type": "result", "source": "ai", "detail": json.loads(ENVELOPE)},
            "the body is an EventBridge event: have the rule's target send only the envelope (input path $.detail)",
        ),
        (
            {"Records": [{"eventVersion": "2.1", "eventSource": "aws:s3", "s3": {"object": {"key": "graph.json"}}}]},
            "the body is an S3 event notification: remove this queue from the bucket's event notifications",
        ),
        (
            {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "payloads"},
            "the body is an S3 event notification: remove this queue from the bucket's event notifications",
        ),
    ],
    ids=["SNS", "EventBridge", "S3", "S3's test"],
)
def test_a_body_that_an_aws_service_wrapped_or_made_is_named_with_what_mends_it(
    wrapped: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InvalidEnvelope) as caught:
        decode(json.dumps(wrapped))

    assert (str(caught.value), caught.value.log_text) == (expected, expected)


@pytest.mark.parametrize("like", [{"Type": "Notification"}, {"source": "ai"}, {"Records": []}, {"Records": ["s3"]}])
def test_a_body_that_only_looks_like_an_aws_services_is_not_named_as_one(like: dict[str, Any]) -> None:
    assert refusal(json.dumps(like)).startswith("taskType: expected a text; it is not given")


def test_an_envelope_with_the_fields_of_an_aws_service_is_an_envelope() -> None:
    like = {"Type": "Notification", "TopicArn": "t", "source": "ai", "detail-type": "result"}

    assert decode(json.dumps({**json.loads(ENVELOPE), **like})) == decode(ENVELOPE)


def progress(**fields: Any) -> GraphGenerationProgress:
    payload = decode(body("GRAPH_GENERATION_PROGRESS", {"userId": "u", "currentStage": "s", **fields})).payload
    assert isinstance(payload, GraphGenerationProgress)
    return payload


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (0, 0.0),
        (62.5, 62.0),
        (100.9, 100.0),
        (140, 100.0),
        (-1, 0.0),
        (1e308, 100.0),
        ("40.5", 40.0),
        (None, None),
        ("", None),
        ("half", None),
        ("nan", None),
        ("inf", None),
        (True, None),
        ([], None),
    ],
)
def test_a_percentage_is_rounded_down_and_moved_into_its_bounds(sent: Any, read: float | None) -> None:
    assert progress(progressPercent=sent).percent == read


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (0, 0.0),
        (30.5, 30.5),
        ("30", 30.0),
        (-3, 0.0),
        (1e300, 1e9),
        (None, None),
        ("", None),
        ("soon", None),
        ("inf", None),
        (False, None),
        ([], None),
    ],
)
def test_an_eta_is_not_negative_and_an_unreadable_one_is_none(sent: Any, read: float | None) -> None:
    assert progress(etaSeconds=sent).eta_s == read


@pytest.mark.parametrize(
    ("sent", "read"), [("clustering", "clustering"), (" ", None), ("", None), (None, None), ([], None), (3, "3")]
)
def test_a_blank_stage_is_none(sent: Any, read: str | None) -> None:
    assert progress(currentStage=sent).stage == read


@pytest.mark.parametrize(
    ("field", "sent", "read", "warning"),
    [
        ("sourceId", 17, "17", "payload.source_id read as text"),
        ("sourceId", [17], None, "malformed payload.source_id"),
        ("userId", 7, "7", "payload.user_id read as text"),
        ("userId", [7], None, "malformed payload.user_id"),
        ("userId", "u\0", None, "malformed payload.user_id"),
        ("groupId", "g" * 201, None, "malformed payload.group_id"),
        ("error", {"code": 1}, '{"code":1}', "payload.error read as text"),
        ("error", [1], "[1]", "payload.error read as text"),
        ("error", 7, "7", "payload.error read as text"),
        ("error", False, None, "malformed payload.error"),
        ("error", 0, None, "malformed payload.error"),
        ("error", True, "true", "payload.error read as text"),
        ("error", {}, None, "malformed payload.error"),
        ("chunks_count", 2**31, None, "malformed payload.chunks_count"),
        ("chunks_count", "many", None, "malformed payload.chunks_count"),
        ("schema_name", ["x"], None, "malformed payload.schema_name"),
        ("block_graph_s3_key", 17, None, "malformed payload.block_graph_s3_key"),
        ("block_graph_s3_key", "k\0", None, "malformed payload.block_graph_s3_key"),
    ],
)
def test_a_malformed_optional_field_is_read_as_text_or_not_given_and_counted(
    field: str, sent: Any, read: Any, warning: str
) -> None:
    envelope = decode(body("MICROSCOPE_INGEST_RESULT", {"status": "COMPLETED", field: sent}))

    assert getattr(envelope.payload, field_name(field)) == read
    assert {name: count for name, count in envelope.warnings.items() if not name.startswith("NUL")} == {warning: 1}


@pytest.mark.parametrize("stats", [[1], 7, "three pages", {"pages": 3}, False])
def test_statistics_are_kept_as_json_whatever_they_are(stats: Any) -> None:
    envelope = decode(body("MICROSCOPE_INGEST_RESULT", {"status": "COMPLETED", "ingest_stats": stats}))

    assert envelope.payload.ingest_stats == stats
    assert envelope.warnings == {}


def test_a_task_id_may_be_a_number() -> None:
    envelope = decode(body("ADD_NODE_RESULT", {"userId": "u", "status": "FAILED"}, taskId=17))

    assert (envelope.task_id, envelope.warnings) == ("17", {"taskId read as text": 1})


@pytest.mark.parametrize("timestamp", [1776500000.1, "yesterday", "0001-01-01T00:00:00+01:00", True, [], {"at": 1}])
def test_an_unreadable_timestamp_counts_as_missing_with_a_warning(timestamp: Any) -> None:
    envelope = decode(body("ADD_NODE_RESULT", {"userId": "u", "status": "FAILED"}, timestamp=timestamp))

    assert envelope.timestamp == SENT_AT
    assert envelope.warnings == {"unreadable timestamp: replaced by SQS's": 1}


def test_nul_is_removed_from_texts_and_statistics_and_counted() -> None:
    payload = {"status": "FAILED", "error": "a\0b", "ingest_stats": {"k\0": ["\0"]}, "more": "\0"}
    envelope = decode(body("MICROSCOPE_INGEST_RESULT", payload))

    assert (envelope.payload.error, envelope.payload.ingest_stats) == ("ab", {"k": [""]})
    assert envelope.warnings == {"NUL characters removed": 4}


def test_an_id_is_as_it_was_sent_beside_a_nul() -> None:
    payload = {"user\0Id": "bob", "userId": "ada", "groupId": "g\0", "status": "FAILED", "error": "\0"}
    envelope = decode(body("MICROSCOPE_INGEST_RESULT", payload))

    assert (envelope.payload.user_id, envelope.payload.group_id) == ("ada", None)


def test_what_python_writes_and_json_does_not_have_is_repaired_and_counted() -> None:
    payload = {"status": "FAILED", "error": "\ud800", "ingest_stats": {"score": float("nan")}}
    envelope = decode(body("MICROSCOPE_INGEST_RESULT", payload))

    assert (envelope.payload.error, envelope.payload.ingest_stats) == ("\ufffd", {"score": None})
    assert envelope.warnings == {"broken characters replaced": 1, "numbers that are not finite": 1}


@pytest.mark.parametrize("task_type", PAYLOADS)
@given(data=st.data())
def test_any_value_in_a_place_that_identifies_nothing_leaves_a_message_readable(
    task_type: str, data: st.DataObject
) -> None:
    sample = PAYLOADS[task_type]
    changed = sample.changed(data.draw(st.sampled_from(sample.places())), data.draw(ANY_VALUE))

    envelope = decode(json.dumps({"taskType": task_type, "taskId": "t-1", **changed}))

    assert envelope.payload.user_id in ("ada", None) or "userId" in changed["payload"]
    assert "\0" not in msgspec.json.encode(envelope.payload).decode()
    assert "\\u0000" not in msgspec.json.encode(envelope.payload).decode()


@pytest.mark.parametrize("task_type", PAYLOADS)
def test_a_sample_message_has_no_fault(task_type: str) -> None:
    envelope = decode(json.dumps({"taskType": task_type, "taskId": "t-1", **PAYLOADS[task_type].value}))

    assert envelope.warnings == {}


def test_the_error_for_deep_nesting_is_short() -> None:
    assert len(refusal('{"x": ' + "[" * 300 + "9" * 5000 + "]" * 300 + "}")) < 500


def test_long_names_of_unknown_fields_are_not_kept_in_memory() -> None:
    decode(body("ADD_NODE_RESULT", {"userId": "u", "status": "FAILED"}))
    before = field_name.cache_info().currsize

    decode(body("ADD_NODE_RESULT", {"userId": "u", "status": "FAILED", "x" * 100_000: 1}))

    assert field_name.cache_info().currsize == before


@pytest.mark.parametrize("depth", [100, 400, 700, 900])
def test_a_nul_at_any_depth_is_removed(depth: int) -> None:
    deep = "[" * depth + '"\\u0000"' + "]" * depth
    text = body("MICROSCOPE_INGEST_RESULT", {"status": "FAILED", "ingest_stats": "HERE"}).replace('"HERE"', deep)

    assert json.dumps(decode(text).payload.ingest_stats) == deep.replace("\\u0000", "")


def test_an_unknown_type_is_refused_with_the_known_types() -> None:
    with pytest.raises(UnknownTaskType, match="no actor handles it \\(known: GRAPH_GENERATION_RESULT"):
        decode(body("MAKE_COFFEE_RESULT", {}))


@pytest.mark.parametrize("task_type", sorted(REQUESTS))
def test_a_request_on_the_result_queue_is_misplaced(task_type: str) -> None:
    with pytest.raises(MisplacedRequest, match="belongs on the request queue"):
        decode(body(task_type, {"userId": "u"}))


def test_a_long_value_is_shortened_in_the_error() -> None:
    assert len(refusal("x" * 100_000)) < 300


@given(st.text() | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_any_other_body_is_a_permanent_error(text: str) -> None:
    with pytest.raises(InvalidEnvelope):
        decode(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (body("ADD_NODE_RESULT", {}), ("t-1", "ADD_NODE_RESULT")),
        ('{"taskType": "X"}', (None, "X")),
        ('{"taskId": 7}', ("7", None)),
        ('{"taskId": [7]}', (None, None)),
        (r'{"taskId": "t\u0000", "taskType": "X\u0000"}', (None, "X")),
        ("nope", (None, None)),
    ],
)
def test_the_ids_of_a_body_are_found_as_far_as_it_has_them(text: str, expected: tuple[str | None, str | None]) -> None:
    assert ids_of_body(text) == expected


@given(
    user=st.none() | st.text(max_size=200) | st.integers() | st.floats() | st.lists(st.text(), max_size=2),
    key=st.sampled_from(["userId", "user_id", "userID", "UserId", "USER_ID"]),
    noise=st.dictionaries(st.text(max_size=8), st.one_of(st.none(), st.integers(), st.text(max_size=8)), max_size=4),
    task_id=st.sampled_from(["t-1", "task_microscope_node_bob_01KT1AJS0YPC4C3805641TKH5E_block", "task_microscope_x"]),
)
def test_the_lane_is_the_user_that_the_decoder_reads(
    user: str | None, key: str, noise: dict[str, Any], task_id: str
) -> None:
    text = json.dumps(
        {"taskType": "MICROSCOPE_INGEST_RESULT", "taskId": task_id, "payload": {**noise, key: user, "status": "FAILED"}}
    )
    try:
        envelope = decode(text)
    except InvalidEnvelope:
        # Noise that is no noise: the message has a lane of its own, or somebody's.
        lane_of_body(text)
        return

    assert lane_of_body(text) == (envelope.payload.user_id or parse_task_id(envelope.task_id).user_id)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        "[[],[]]",
        "{}",
        '{"payload": 1}',
        '{"payload": {}}',
        '{"payload": {"userId": true}}',
        '{"payload": {"userId": ["ada"]}}',
        '{"payload": {"userId": ""}, "taskId": 7}',
        '{"payload": {"userId": "' + "u" * 201 + '"}}',
        '{"taskId": "' + "t" * 100_000 + '"}',
        "\ud800",
        "[" * 100_000,
        '{"payload": ' + "[" * 100_000,
    ],
)
def test_a_body_that_names_no_user_has_no_lane(text: str) -> None:
    assert lane_of_body(text) is None


def test_the_look_for_a_lane_decodes_nothing_else() -> None:
    text = '{"payload": {"userId": "ada", "rest": [' + ",".join(["[]"] * 300_000) + "]}}"
    tracemalloc.start()
    try:
        assert lane_of_body(text) == "ada"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    # The body as bytes, and its payload once more. Decoded, it would take twenty times as much.
    assert peak < 4 * len(text)
