"""What is on its way when a process is killed: a message for each handler, and what makes each of the other steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from graphnode.contract.envelopes import NOTIFICATION_QUEUE, RESULT_QUEUE
from graphnode.dev.samples import KINDS, Result
from tests.e2e.ai_server import AiServer
from tests.e2e.kill_points.victim import Point

#: The user whose graph others are given.
SEED = "seed-user"

#: When the AI server sent each result.
SENT_AT = datetime(2026, 5, 24, 8, 2, 8, tzinfo=UTC)

#: A time-sorted ID, the same for every user's document.
ULID = "01JZZZZZZZZZZZZZZZZZZZZZZZ"

GRAPH_TABLES = ("graphs", "graph_clusters", "graph_nodes", "graph_edges", "graph_subclusters", "node_embeddings")

#: The threads that have no message of their own.
HEARTBEAT = "heartbeat"

#: Keeps a message from coming to its end, until it is left.
Obstacle = Callable[[AiServer, Result], AbstractContextManager[object]]


def nothing(ai: AiServer, result: Result) -> AbstractContextManager[object]:
    """No obstacle: the result is sent."""
    ai.send(result)
    return nullcontext()


@contextmanager
def no_document(ai: AiServer, result: Result) -> Iterator[None]:
    """The document comes late."""
    ai.send_body(result.body)
    yield
    for key, content in result.documents.items():
        ai.s3.put_object(Bucket=ai.bucket, Key=key, Body=content)


@contextmanager
def locked_user(ai: AiServer, result: Result) -> Iterator[None]:
    """Other work on the user takes long."""
    with ai.locked_user(user_of(result)):
        ai.send(result)
        yield


@dataclass(frozen=True, eq=False)
class Scenario:
    """A message's way to be killed on.

    Parameters:
      name: as the table calls it.
      kind: the result, by its short name.
      way: whose steps count: those of the results' or the notifications' queue, or a thread's.
      options: of the result.
      prepare: what the API server has done before.
      obstacle: sends the result.
      until: the last point that is passed before the obstacle goes; None: there is none.
    """

    name: str
    kind: str
    way: str = RESULT_QUEUE
    options: tuple[tuple[str, Any], ...] = ()
    prepare: Callable[[AiServer, str], None] = lambda ai, user_id: None
    obstacle: Obstacle = nothing
    until: Point | None = None

    def result(self, ai: AiServer, user_id: str) -> Result:
        """The result of this user."""
        options = dict(self.options)
        task_id = f"{KINDS[self.kind].task_id}_{user_id}_{ULID}"
        if self.kind.startswith("microscope"):
            options["group_id"] = f"ws-{user_id}"
        result = ai.result(self.kind, user_id=user_id, task_id=task_id, sent_at=SENT_AT, **options)
        if self.name == "refused":
            return result._replace(documents=dict.fromkeys(result.documents, b"{]"))
        return result


def user_of(result: Result) -> str:
    """The user in a task's ID."""
    return result.task_id.removesuffix(f"_{ULID}").rpartition("_")[2]


def with_graph(ai: AiServer, user_id: str) -> None:
    """Give the user a graph."""
    for table in GRAPH_TABLES:
        ai.execute(
            f"INSERT INTO {table} SELECT (jsonb_populate_record(NULL::{table}, replace(to_jsonb(seed)::text,"  # noqa: S608
            f" %s, %s)::jsonb)).* FROM {table} AS seed WHERE user_id = %s",
            *(SEED, user_id, SEED),
        )


def with_document(ai: AiServer, user_id: str) -> None:
    """Register the one document of a workspace, as a file and as a node."""
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
    Scenario("push", "graph", way=NOTIFICATION_QUEUE, options=FAILED),
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
