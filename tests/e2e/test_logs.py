"""A worker's logs have every line as an event and no secret, while all kinds of messages succeed and fail."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from benchmarks.fcm_stub import FcmServer
from graphnode.dev.child_processes import READY, Service
from graphnode.dev.samples import KINDS, packaged_documents
from tests.e2e.ai_server import AiServer
from tests.e2e.conftest import SETTINGS

#: Part of every value that must not be logged.
PLANTED = "PLANTED-SECRET"

#: The DSN of a Sentry that is away. Its key is a secret.
DSN = f"http://{PLANTED}@127.0.0.1:9/1"


#: The ID of a node that `picky_database` refuses.
REFUSED_ID = 2_000_000_000


@pytest.fixture
def picky_database(ai: AiServer) -> Iterator[None]:
    """The database refuses a node with REFUSED_ID. PostgreSQL's error quotes the whole row."""
    ai.execute(f"ALTER TABLE graph_nodes ADD CONSTRAINT picky CHECK (id < {REFUSED_ID})")
    yield
    ai.execute("ALTER TABLE graph_nodes DROP CONSTRAINT picky")


@pytest.fixture
def fcm() -> Iterator[FcmServer]:
    """A local FCM."""
    with FcmServer() as server:
        yield server


def planted(value: Any) -> Any:
    """A document with the secret in every text that is no ID, time or type."""
    match value:
        case dict():
            return {name: item if _is_kept(name) else planted(item) for name, item in value.items()}
        case list():
            return [planted(item) for item in value]
        case str():
            return f"{PLANTED} {value}"
    return value


def _is_kept(name: str) -> bool:
    return name.lower().endswith(("id", "ids", "_at", "at", "timestamp", "time", "type", "detail_level"))


def send_all_kinds(ai: AiServer) -> int:
    """Send messages that succeed, permanent errors and transient errors. Returns the number of dead letters."""
    for name, kind in KINDS.items():
        documents = {
            field: json.dumps(planted(json.loads(document))).encode()
            for field, document in packaged_documents(kind, user_id="ada").items()
        }
        options: dict[str, Any] = {"documents": documents}
        if name == "progress":
            options["extra"] = {"currentStage": PLANTED, "progressPercent": 5}
        if name.startswith("microscope"):
            options["group_id"] = f"ws-{name}"
        result = ai.send(ai.result(name, **options))
        if name != "progress":
            ai.ended(result)
            failed = ai.result(name, status="FAILED", error=f"{PLANTED} went wrong")
            ai.ended(ai.send(failed))
    broken: list[bytes] = [
        f'{{"nodes": [{{"id": "{PLANTED}", "orig_id": "a"}}]}}'.encode(),
        f'{{"nodes": [{PLANTED}'.encode(),
        f'{{"nodes": [{{"id": 0, "orig_id": ["{PLANTED}"]}}]}}'.encode(),
    ]
    for document in broken:
        ai.send(ai.result("graph", documents={"resultS3Key": document}))
    bodies = [
        f"{PLANTED} and no JSON",
        json.dumps([PLANTED]),
        json.dumps({"taskType": f"{PLANTED} of no kind", "taskId": "t-1", "payload": {"text": PLANTED}}),
        json.dumps({"taskType": "ADD_NODE_RESULT", "taskId": "t-2", "payload": PLANTED}),
        json.dumps({"taskType": "ADD_NODE_RESULT", "taskId": "t-3", "timestamp": PLANTED, "payload": {}}),
        json.dumps({"taskType": "ADD_NODE_RESULT", "taskId": "t-4", "payload": {"userId": "ada", "status": PLANTED}}),
    ]
    for body in bodies:
        ai.send_body(body)
    missing = {"userId": "ada", "status": "COMPLETED", "resultS3Key": f"in/{PLANTED}.pdf.json"}
    ai.send_envelope("GRAPH_GENERATION_RESULT", "never-there", missing)
    # See faulty_worker.py.
    ai.send(ai.result("summary", documents={"summaryS3Key": f"UNEXPECTED {PLANTED}".encode()}))
    # See `picky_database`.
    node = {
        "id": REFUSED_ID,
        "orig_id": "a",
        "cluster_id": "c",
        "cluster_name": PLANTED,
        "keywords": [{"term": PLANTED}],
    }
    document = json.dumps({"nodes": [node], "edges": [], "metadata": {}}).encode()
    ai.send(ai.result("graph", documents={"resultS3Key": document}))
    ai.send_body(PLANTED)
    return len(broken) + len(bodies) + 3


@pytest.mark.usefixtures("picky_database")
@pytest.mark.parametrize("level", ["info", "debug"])
def test_no_secret_is_logged_and_every_line_is_an_event(ai: AiServer, fcm: FcmServer, level: str) -> None:
    password = urlsplit(ai.environment["DATABASE_URL"]).password
    environment = {
        **SETTINGS,
        **ai.environment,
        **fcm.environment,
        "AWS_SECRET_ACCESS_KEY": PLANTED,
        "SENTRY_DSN": DSN,
        "GRAPHNODE_LOG_FORMAT": "json",
        "GRAPHNODE_LOG_LEVEL": level,
        "GRAPHNODE_MAX_ATTEMPTS": "2",
    }
    ai.execute("INSERT INTO device_tokens (token, user_id) VALUES (%s, 'ada')", f"token-{PLANTED}")
    command = [sys.executable, "-m", "tests.e2e.faulty_worker", "worker", "--processes", "1", "--threads", "4"]

    with Service("worker", command, environment, ready=READY) as worker:
        worker.wait_until_ready()
        letters = ai.dead_letters(send_all_kinds(ai))
        ai.wait_until("SELECT 1 FROM notifications WHERE push_status = 'SENT'")
        ai.wait_until_drained()
        assert worker.stop() == 0
        log = worker.log.text()

    # The secrets were there: operators see one.
    assert any(PLANTED in letter.attributes["error"] for letter in letters)
    assert {letter.attributes["reason"] for letter in letters} == {
        "DATABASE_CONFLICT",
        "INVALID_DOCUMENT",
        "INVALID_ENVELOPE",
        "OBJECT_NOT_FOUND",
        "UNEXPECTED",
        "UNKNOWN_TASK_TYPE",
    }
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line for line in lines if not line.keys() >= {"event", "level", "logger", "timestamp"}] == []
    assert [line for line in lines if PLANTED in json.dumps(line)] == []
    assert fcm.credentials_json.split("\\n")[1] not in log
    assert password
    assert password not in log
    unexpected = next(line for line in lines if line.get("reason") == "UNEXPECTED")
    assert "in fail_to_decode" in unexpected["stack"]
    dead = next(line for line in lines if (line["event"], line.get("reason")) == ("dead letter", "OBJECT_NOT_FOUND"))
    assert (dead["task_id"], dead["task_type"], dead["user_id"], dead["actor"]) == (
        "never-there",
        "GRAPH_GENERATION_RESULT",
        "ada",
        "graph_generation",
    )
    # urllib3 logs that Sentry is away.
    assert {line["logger"].partition(".")[0] for line in lines} == {"dramatiq", "graphnode", "urllib3"}
    assert "dramatiq.MainProcess" in {line["logger"] for line in lines}
