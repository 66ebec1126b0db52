"""Sample results: documents and envelope as the AI server writes them, and sending them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ulid import ULID

from graphnode.contract.envelopes import ROUTES
from graphnode.contract.message_groups import message_group
from graphnode.contract.schemas.examples import example_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

#: The sample documents of this project.
DOCUMENTS = Path(__file__).with_name("documents")

#: The user in the sample documents.
DOCUMENTS_USER = "demo-user"

Status = Literal["COMPLETED", "FAILED"]
Half = Literal["block", "nonblock"]


class ResultKind(NamedTuple):
    """A type of result.

    Parameters:
      task_type: the contract's name.
      task_id: the prefix of its task IDs.
      documents: the files of its sample documents, by the payload's field for their S3 keys.
      extra: more fields of the payload.
    """

    task_type: str
    task_id: str
    documents: Mapping[str, str] = {}
    extra: Mapping[str, Any] = {}


GRAPH = {"resultS3Key": "graph.json", "featuresS3Key": "features.json", "summaryS3Key": "summary.json"}
MICROSCOPE = {
    "standardized_s3_key": "microscope_standardized.json",
    "block_graph_s3_key": "microscope_block_graph.json",
}

#: The types of results by short name.
KINDS = {
    "graph": ResultKind("GRAPH_GENERATION_RESULT", "task_graph", GRAPH),
    "progress": ResultKind("GRAPH_GENERATION_PROGRESS", "task_graph"),
    "summary": ResultKind("GRAPH_SUMMARY_RESULT", "task_summary", {"summaryS3Key": "summary_update.json"}),
    "add-node": ResultKind("ADD_NODE_RESULT", "task_add_node", {"resultS3Key": "add_node.json"}),
    "microscope": ResultKind("MICROSCOPE_INGEST_RESULT", "task_microscope_file", MICROSCOPE),
    "microscope-from-node": ResultKind("MICROSCOPE_INGEST_FROM_NODE_RESULT", "task_microscope_node", MICROSCOPE),
}


def by_example(task_type: str) -> ResultKind:
    """A type without sample documents. Its payload is the contract's example."""
    payload = example_of(f"messages/{task_type}")["payload"]
    extra = {field: value for field, value in payload.items() if field not in ("userId", "status", "error")}
    return ResultKind(task_type, f"task_{_name(task_type).replace('-', '_')}", extra=extra)


def _name(task_type: str) -> str:
    return task_type.removesuffix("_RESULT").replace("_", "-").lower()


_without = [each for each in ROUTES if each not in {kind.task_type for kind in KINDS.values()}]
KINDS |= {_name(each): by_example(each) for each in _without}

#: The payload's field for the document of each half of a microscope task.
HALVES: dict[Half, str] = {"block": "block_graph_s3_key", "nonblock": "standardized_s3_key"}


class Result(NamedTuple):
    """A message of the AI server, and its documents.

    Parameters:
      task_id, task_type: those of the envelope.
      user_id: whose it is.
      documents: the S3 objects, by key.
      body: the SQS message's body.
    """

    task_id: str
    task_type: str
    user_id: str
    documents: dict[str, bytes]
    body: str


def kind_of(name: str) -> ResultKind:
    """The type of result with this short name or contract's name. Raises KeyError."""
    return KINDS.get(name) or {kind.task_type: kind for kind in KINDS.values()}[name.upper()]


def packaged_documents(kind: ResultKind, *, user_id: str, half: Half | None = None) -> dict[str, bytes]:
    """The sample documents, rewritten for this user, by the payload's field for their S3 keys."""
    name = json.dumps(user_id)[1:-1]
    return {
        field: (DOCUMENTS / file).read_text(encoding="utf-8").replace(DOCUMENTS_USER, name).encode()
        for field, file in kind.documents.items()
        if half is None or field == HALVES[half]
    }


def result_of(
    kind: ResultKind,
    *,
    user_id: str,
    documents: Mapping[str, bytes],
    status: Status = "COMPLETED",
    error: str | None = None,
    task_id: str | None = None,
    group_id: str | None = None,
    half: Half | None = None,
    extra: Mapping[str, Any] | None = None,
    sent_at: datetime | None = None,
) -> Result:
    """A result as the AI server writes it.

    Parameters:
      documents: by the payload's field for their S3 keys. They are left out of a FAILED result.
      status: the task's status. Progress has none.
      error: the text of a failure.
      task_id: by default, a new one.
      group_id: the microscope workspace.
      half: the half of a microscope document; the task ID ends with it.
      extra: more fields of the payload.
      sent_at: the envelope's timestamp; by default, now.
    """
    task_id = task_id or new_task_id(kind, user_id=user_id)
    if half and not task_id.endswith(f"_{half}"):
        task_id = f"{task_id}_{half}"
    if status == "FAILED":
        documents = {}
    keys = {
        field: f"{kind.task_id.removeprefix('task_')}/{user_id}/{task_id}/{kind.documents[field]}"
        for field in documents
    }
    given = {
        "userId": user_id,
        "status": status if kind.task_type.endswith("_RESULT") else None,
        "groupId": group_id,
        "error": error,
        **keys,
        **kind.extra,
        **(extra or {}),
    }
    envelope = {
        "taskType": kind.task_type,
        "taskId": task_id,
        "timestamp": (sent_at or datetime.now(UTC)).isoformat(),
        "payload": {field: value for field, value in given.items() if value is not None},
    }
    return Result(
        task_id=task_id,
        task_type=kind.task_type,
        user_id=user_id,
        documents={keys[field]: content for field, content in documents.items()},
        body=json.dumps(envelope, ensure_ascii=False),
    )


def new_task_id(kind: ResultKind, *, user_id: str) -> str:
    """A task ID as the API server makes it. The ID of a microscope document is also a task ID."""
    return f"{kind.task_id}_{user_id}_{ULID()}"


def send(result: Result, *, sqs: SQSClient, s3: S3Client, queue_url: str, bucket: str) -> None:
    """Put the documents into S3, then the envelope on the result queue."""
    for key, content in result.documents.items():
        s3.put_object(Bucket=bucket, Key=key, Body=content, ContentType="application/json")
    sqs.send_message(QueueUrl=queue_url, MessageBody=result.body, MessageGroupId=message_group(result.user_id))
