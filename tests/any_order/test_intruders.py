"""A forged result reaches neither another user's data nor a forbidden object in S3."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from graphnode.contract.envelopes import ROUTES
from graphnode.dev import samples
from graphnode.errors import ForbiddenKey, WrongOwner
from graphnode.storage.database import database
from tests.any_order.conftest import Play, Snapshot
from tests.any_order.delivery import SETTINGS, Bench, deliver
from tests.chaos.model.state import Message
from tests.conftest import use_settings

NOW = datetime(2026, 5, 24, 12, tzinfo=UTC)
DOCUMENT = "task_microscope_file_ada_01J9ZZZZZZZZZZZZZZZZZZZZZA"

#: The top-level prefixes of the packaged results' keys.
PREFIXES = ("graph", "summary", "add_node", "microscope_file", "microscope_node")
PER_USER = ",".join(f"{prefix}/{{user_id}}/" for prefix in PREFIXES)

#: Keys that no result of ada may name, and what the error says.
FORBIDDEN = {
    "graph/ada/../eve/graph.json": "has a segment",
    "s3://other-bucket/graph/ada/graph.json": "is a URL",
    "https://169.254.169.254/latest/meta-data": "is a URL",
    "graph/eve/graph.json": "GRAPHNODE_S3_ALLOWED_PREFIXES",
    "elsewhere/ada/graph.json": "GRAPHNODE_S3_ALLOWED_PREFIXES",
}

#: SQL injections: statements, ends of quotations, placeholders, escapes and patterns.
SQL = (
    "'; DROP TABLE tasks; --\"$$\\');DELETE FROM graphs;\\. %s %(x)s {0} E'\\\\x27 \\N /* */ \u2019 \uff07; "
    "COPY tasks TO PROGRAM 'id'"
)


@pytest.fixture
def ada(play: Play) -> None:
    """Stores one result of every kind for the user ada."""
    play("graph", task_id="task_graph_ada_1")
    play("summary", task_id="task_summary_ada_1")
    play("add-node", task_id="task_add_node_ada_1")
    play("microscope", task_id=DOCUMENT, groupId="w-ada", userId="ada")


@pytest.fixture
def prefixes(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets GRAPHNODE_S3_ALLOWED_PREFIXES."""

    def allow(text: str) -> None:
        use_settings(msgspec.structs.replace(SETTINGS, s3_allowed_prefixes=text), monkeypatch)

    return allow


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("status", ["COMPLETED", "FAILED"])
@pytest.mark.parametrize(
    ("kind", "task_id", "changes"),
    [
        ("graph", "task_graph_ada_1", {}),
        ("summary", "task_summary_ada_1", {}),
        ("add-node", "task_add_node_ada_1", {}),
        ("add-node", "task_graph_ada_1", {}),
        ("microscope", DOCUMENT, {}),
        ("microscope", f"{DOCUMENT}_block", {}),
        ("microscope-from-node", DOCUMENT, {}),
        ("microscope", "task_microscope_file_eve_01J9ZZZZZZZZZZZZZZZZZZZZZA", {"groupId": "w-ada"}),
        # The task is unknown, but its ID names its user.
        ("microscope", "task_microscope_file_ada_01J9ZZZZZZZZZZZZZZZZZZZZZB", {"groupId": "w-eve"}),
    ],
)
def test_a_result_for_another_users_task_or_document_is_refused_and_changes_nothing(
    kind: str, task_id: str, changes: dict[str, Any], status: str, play: Play, snapshot: Callable[[], Snapshot]
) -> None:
    before = snapshot()

    with pytest.raises(WrongOwner):
        play(kind, user_id="eve", task_id=task_id, status=status, **changes)

    assert snapshot() == before


@pytest.mark.usefixtures("ada")
def test_progress_of_another_users_task_is_refused_and_changes_nothing(
    play: Play, snapshot: Callable[[], Snapshot]
) -> None:
    before = snapshot()

    with pytest.raises(WrongOwner):
        play("progress", user_id="eve", task_id="task_graph_ada_1", currentStage="mine now", progressPercent=10)

    assert snapshot() == before


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED"])
@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("graph", "resultS3Key"),
        ("graph", "featuresS3Key"),
        ("graph", "summary_s3_key"),
        ("summary", "summaryS3Key"),
        ("add-node", "resultS3Key"),
        ("microscope", "standardized_s3_key"),
        ("microscope", "blockGraphS3Key"),
        ("microscope", "images_s3_prefix"),
        ("microscope-from-node", "imagesS3Prefix"),
    ],
)
def test_an_invalid_or_foreign_key_is_refused_in_every_field_and_changes_nothing(
    kind: str,
    field: str,
    status: str,
    play: Play,
    in_this_process: Bench,
    prefixes: Callable[[str], None],
    snapshot: Callable[[], Snapshot],
) -> None:
    prefixes(PER_USER)
    before = snapshot()
    # The packaged result has the key in one spelling only, which is removed.
    others = {"summary_s3_key": "summaryS3Key", "blockGraphS3Key": "block_graph_s3_key"}

    for key, fault in FORBIDDEN.items():
        in_this_process.documents[key] = {"nodes": []}
        with pytest.raises(ForbiddenKey, match=fault):
            play(kind, status=status, **{others.get(field, field): None, field: key})

    assert snapshot() == before


def test_every_result_with_keys_below_the_users_own_prefixes_is_stored(
    play: Play, prefixes: Callable[[str], None]
) -> None:
    prefixes(PER_USER)
    for kind in samples.KINDS:
        changes = {"currentStage": "clustering", "progressPercent": 10} if kind == "progress" else {}
        play(kind, **changes)
    # Only the task ID names the user.
    play("microscope", task_id=DOCUMENT, userId=None)

    assert set(database.execute_sql("SELECT DISTINCT status FROM tasks")) == {("COMPLETED",), ("PROGRESS",)}


def test_a_bucket_that_a_result_names_is_not_read(play: Play, in_this_process: Bench) -> None:
    buckets: list[str] = []
    answer = in_this_process.get_object

    def get_object(*, Bucket: str, Key: str, **conditions: str) -> dict[str, Any]:  # noqa: N803
        buckets.append(Bucket)
        return answer(Bucket=Bucket, Key=Key, **conditions)

    in_this_process.get_object = get_object  # type: ignore[method-assign]
    try:
        play("graph", bucket="other-bucket", resultBucket="other-bucket")
    finally:
        del in_this_process.get_object

    assert set(buckets) == {SETTINGS.s3_payload_bucket}


def poisoned(value: Any, *, but: str) -> Any:
    """The same document with SQL appended to every text except `but`."""
    match value:
        case str():
            return value if value == but else value + SQL
        case dict():
            return {name: poisoned(item, but=but) for name, item in value.items()}
        case list():
            return [poisoned(item, but=but) for item in value]
    return value


@pytest.mark.parametrize("kind", samples.KINDS)
@pytest.mark.parametrize("status", ["COMPLETED", "FAILED"])
def test_sql_in_every_text_of_every_type_is_stored_as_text(
    kind: str, status: str, in_this_process: Bench, play: Play, snapshot: Callable[[], Snapshot]
) -> None:
    play("graph", user_id="eve")
    before = snapshot()
    known = samples.KINDS[kind]
    user_id = f"ada{SQL}"
    packaged = samples.packaged_documents(known, user_id=user_id)
    documents = {field: json.dumps(poisoned(json.loads(raw), but=user_id)).encode() for field, raw in packaged.items()}
    task_id = f"task{SQL}"
    result = samples.result_of(known, user_id=user_id, documents=documents, task_id=task_id)
    body = json.loads(result.body)
    route = ROUTES[known.task_type]
    texts = [field.name for field in msgspec.structs.fields(route.payload) if "str" in str(field.type)]
    free = {name: SQL for name in texts if name not in ("status", "user_id") and "s3" not in name}
    body["payload"] |= {**free, "group_id": SQL[:200]}
    if kind == "progress":
        body["payload"]["progress_percent"] = 10
    if kind.startswith("microscope"):
        body["payload"]["ingest_stats"] = {SQL: SQL}
    if "status" in body["payload"]:
        body["payload"]["status"] = status
    keys = {name: key + SQL for name, key in body["payload"].items() if "s3" in name.lower()}
    body["payload"] |= keys
    in_this_process.documents |= {key + SQL: json.loads(raw) for key, raw in result.documents.items()}

    deliver(Message(body, NOW, {}), attempt=1)

    after = snapshot()
    assert after.keys() == before.keys()
    assert all(set(rows) <= set(after[name]) for name, rows in before.items()), "a row of another user has changed"
    (stored,) = database.execute_sql("SELECT task_id, user_id, status FROM tasks WHERE task_id = %s", (task_id,))
    expected = "PROGRESS" if kind == "progress" else status
    assert stored == (task_id, user_id, expected)
