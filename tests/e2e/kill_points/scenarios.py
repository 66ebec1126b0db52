"""The messages whose handling is killed: one for each handler, and those that need the remaining steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from graphnode.contract.envelopes import RESULT_QUEUE
from graphnode.dev.samples import KINDS, Result
from tests.e2e.ai_server import AiServer
from tests.e2e.kill_points.victim import HEARTBEAT, PUSHES, Point

#: The user whose graph is copied to other users.
SEED = "seed-user"

#: When the AI server sent each result.
SENT_AT = datetime(2026, 5, 24, 8, 2, 8, tzinfo=UTC)

#: The ULID in every task ID.
ULID = "01JZZZZZZZZZZZZZZZZZZZZZZZ"

GRAPH_TABLES = ("graphs", "graph_clusters", "graph_nodes", "graph_edges", "graph_subclusters", "node_embeddings")

#: Sends a result, and keeps it from being finished during the block.
Obstacle = Callable[[AiServer, Result], AbstractContextManager[object]]


def nothing(ai: AiServer, result: Result) -> AbstractContextManager[object]:
    """No obstacle."""
    ai.send(result)
    return nullcontext()


@contextmanager
def no_document(ai: AiServer, result: Result) -> Iterator[None]:
    """The documents are uploaded after the block."""
    ai.send_body(result.body)
    yield
    for key, content in result.documents.items():
        ai.s3.put_object(Bucket=ai.bucket, Key=key, Body=content)


@contextmanager
def locked_user(ai: AiServer, result: Result) -> Iterator[None]:
    """The user's lock is held during the block."""
    with ai.locked_user(user_of(result)):
        ai.send(result)
        yield


@dataclass(frozen=True, eq=False)
class Scenario:
    """A message whose handling is killed at each of its points.

    Parameters:
      name: its name in the table of findings.
      kind: the result's short name.
      way: the queue or the thread whose steps are killed.
      options: options of the result.
      prepare: does what the API server has done before.
      obstacle: sends the result.
      until: the last point before the obstacle is removed. None: there is no obstacle.
    """

    name: str
    kind: str
    way: str = RESULT_QUEUE
    options: tuple[tuple[str, Any], ...] = ()
    prepare: Callable[[AiServer, str], None] = lambda ai, user_id: None
    obstacle: Obstacle = nothing
    until: Point | None = None

    def result(self, ai: AiServer, user_id: str) -> Result:
        """The scenario's result for this user."""
        options = dict(self.options)
        task_id = f"{KINDS[self.kind].task_id}_{user_id}_{ULID}"
        if self.kind.startswith("microscope"):
            options["group_id"] = f"ws-{user_id}"
        result = ai.result(self.kind, user_id=user_id, task_id=task_id, sent_at=SENT_AT, **options)
        if self.name == "refused":
            return result._replace(documents=dict.fromkeys(result.documents, b"{]"))
        return result


def user_of(result: Result) -> str:
    """The user in the task ID."""
    return result.task_id.removesuffix(f"_{ULID}").rpartition("_")[2]


def with_graph(ai: AiServer, user_id: str) -> None:
    """Copy SEED's graph to the user."""
    for table in GRAPH_TABLES:
        ai.execute(
            f"INSERT INTO {table} SELECT (jsonb_populate_record(NULL::{table}, replace(to_jsonb(seed)::text,"  # noqa: S608
            f" %s, %s)::jsonb)).* FROM {table} AS seed WHERE user_id = %s",
            *(SEED, user_id, SEED),
        )


def with_document(ai: AiServer, user_id: str) -> None:
    """Insert a workspace for the user's document."""
    ai.execute("INSERT INTO microscope_workspaces (id, user_id, name) VALUES (%s, %s, 'Rye')", f"ws-{user_id}", user_id)


FAILED = (("status", "FAILED"), ("error", "Out of memory"))

SCENARIOS = (
    Scenario("graph generation", "graph", prepare=with_graph),
    Scenario("graph generation, failed", "graph", options=FAILED, prepare=with_graph),
    Scenario("progress", "progress", options=(("extra", {"currentStage": "clustering", "progressPercent": 40}),)),
    Scenario("graph summary", "summary", prepare=with_graph),
    Scenario("graph summary, failed", "summary", options=FAILED),
    Scenario("add node", "add-node", prepare=with_graph),
    Scenario("add node, failed", "add-node", options=FAILED, prepare=with_graph),
    Scenario("microscope ingest", "microscope", prepare=with_document),
    Scenario("microscope ingest, failed", "microscope", options=FAILED, prepare=with_document),
    Scenario("microscope ingest from node", "microscope-from-node", prepare=with_document),
    Scenario("push", "graph", way=PUSHES, options=FAILED),
    Scenario("refused", "summary"),
    Scenario("tried again", "summary", obstacle=no_document, until=Point(RESULT_QUEUE, "give_back", "after", 1)),
    Scenario(
        "kept alive",
        "summary",
        way=HEARTBEAT,
        obstacle=locked_user,
        until=Point(HEARTBEAT, "extend", "after", 1),
    ),
)
