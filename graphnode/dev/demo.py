"""The demo: a folder of real text becomes a graph, from the API server's request to the stored rows.

The demo plays the API server, a stand-in answers as the AI server, everything else is real. What it shows is checked
against the folder, the result's documents and the state before.
"""

from __future__ import annotations

import contextlib
import json
import textwrap
import time
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.text import Text
from ulid import ULID

import graphnode.dev.ai
from graphnode.contract.original_ids import original_id
from graphnode.contract.requests import (
    AddNodeRequest,
    GraphGenerationRequest,
    GraphSummaryRequest,
    MicroscopeIngestRequest,
)
from graphnode.dev import outcomes
from graphnode.dev.checklist import LABEL_WIDTH, Checklist
from graphnode.dev.child_processes import StandIn, Worker
from graphnode.dev.local_aws import dead_letter_url, s3_client, sqs_client
from graphnode.dev.samples import DOCUMENTS_USER, ResultKind, result_of
from graphnode.dev.stack import running_stack
from graphnode.requests import Requested, Requests
from graphnode.storage.database import close_database, open_database

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from psycopg2.extensions import connection

#: Seconds that a request may take; usually it takes a fraction of them.
TIMEOUT_S = 30.0

USER = DOCUMENTS_USER

#: The input: the folder `sources` becomes a graph, the folder `later` is added to it.
CORPUS = Path(graphnode.dev.ai.__file__).with_name("corpus")

#: The document for the microscope.
MICROSCOPED = "sauerteig.md"

#: Faults that the stand-in injects here; the worker repairs them.
FAULTS = ("--odd", "1", "--side", "bad-edges", "--side", "wrong-totals")

#: Edges that `bad-edges` adds to a graph: a self-loop, a repeated edge, an edge to an unknown node.
BAD_EDGES = 3

#: Characters that are shown of a message or a long text.
SHOWN = 100

#: Truncated messages, as from a producer that crashed.
BROKEN_RESULT = '{"taskType": "GRAPH_GENERATION_RESULT", "taskId": "task_graph_demo-user_01K'
BROKEN_REQUEST = '{"taskType": "ADD_NODE_REQUEST", "payload": {"userId": "demo-user", "s3K'

#: The field of a summary's overview that counts the sources of each file name extension.
TOTALS = {".json": "total_conversations", ".md": "total_notes", ".txt": "total_files"}

#: The type of the result that ends each task.
GRAPH, SUMMARY, ADD_NODE = "GRAPH_GENERATION_RESULT", "GRAPH_SUMMARY_RESULT", "ADD_NODE_RESULT"
MICROSCOPE = "MICROSCOPE_INGEST_RESULT"


class StepFailed(Exception):
    """The demo cannot go on after a failed step."""


class Demo(NamedTuple):
    """What each step of the demo needs."""

    checklist: Checklist
    environment: Mapping[str, str]
    sqs: SQSClient
    s3: S3Client
    database: connection
    requests: Requests

    @property
    def bucket(self) -> str:
        """The payload bucket."""
        return self.environment["S3_PAYLOAD_BUCKET"]

    def upload(self, folder: str) -> str:
        """Put a folder of the corpus into S3, as the API server does, and return its prefix there."""
        prefix = f"input/{USER}/{folder}/"
        files = sorted((CORPUS / folder).iterdir())
        for file in files:
            self.s3.put_object(Bucket=self.bucket, Key=prefix + file.name, Body=file.read_bytes())
        size = sum(file.stat().st_size for file in files)
        self.checklist.note(
            "S3", f"{len(files)} files ({size:,} bytes) of graphnode/dev/ai/corpus/{folder} to {prefix}"
        )
        return prefix

    def show_request(self, request_type: str, requested: Requested) -> None:
        """Print a request that the API server sent."""
        for task_id in requested.task_ids:
            self.checklist.note("request queue", f"{request_type} {task_id}")

    def check_tasks(
        self, requested: Requested, task_type: str, *, expected: str = "COMPLETED"
    ) -> list[outcomes.TaskRow]:
        """Wait until a request's tasks have ended, and check their status.

        Raises StepFailed if a task does not end, or ends with another status.
        """

        def all_ended() -> list[outcomes.TaskRow] | None:
            found = [
                outcomes.task(self.database, task_id=task_id, task_type=task_type) for task_id in requested.task_ids
            ]
            ended = [task for task in found if task and task.status not in ("PENDING", "PROGRESS")]
            return ended if len(ended) == len(found) else None

        tasks = outcomes.wait_for(all_ended, timeout_s=TIMEOUT_S) or []
        statuses = [task.status for task in tasks]
        wanted = [expected] * len(requested.task_ids)
        self.checklist.check("task", statuses, expected=wanted, shown=", ".join(statuses))
        if statuses != wanted:
            raise StepFailed
        return tasks

    def result_keys(self, requested: Requested, task_type: str) -> dict[str, str]:
        """The S3 keys of the documents in the results of a request's tasks, by file name."""
        query = (
            "SELECT DISTINCT key FROM tasks, jsonb_array_elements_text(s3_keys) AS key"
            " WHERE task_id = ANY(%(ids)s) AND task_type = %(type)s AND key LIKE %(result)s ORDER BY key"
        )
        keys = outcomes.rows(
            self.database, query, ids=list(requested.task_ids), type=task_type, result=f"ai/{task_type.lower()}/%"
        )
        return {key.rpartition("/")[2]: key for (key,) in keys}

    def documents(self, requested: Requested, task_type: str) -> dict[str, Any]:
        """The documents in the results of a request's tasks, by file name. Prints their sizes."""
        found = {
            name: self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            for name, key in self.result_keys(requested, task_type).items()
        }
        self.checklist.note("S3", ", ".join(f"{name} ({len(content):,} bytes)" for name, content in found.items()))
        return {name: json.loads(content) for name, content in found.items()}

    def value(self, query: str, **values: Any) -> Any:
        """The first value of a query's first row, or None."""
        found = outcomes.rows(self.database, query, **values)
        return found[0][0] if found else None

    def check_value(self, label: str, query: str, *, expected: object, **values: Any) -> None:
        """Check the first value of a query's first row."""
        self.checklist.check(label, self.value(query, **values), expected=expected)

    def check_graph(self, *, status: str) -> None:
        """Check the status of the user's graph."""
        self.check_value("graph", "SELECT status FROM graphs WHERE user_id = %(user)s", user=USER, expected=status)

    def check_counts(self, expected: Mapping[str, int]) -> None:
        """Check the number of the user's rows in each table."""
        for table, count in expected.items():
            self.check_value(table, f"SELECT count(*) FROM {table} WHERE user_id = %(user)s", user=USER, expected=count)  # noqa: S608

    def check_clusters(self, names: Mapping[str, str]) -> None:
        """Check the user's clusters: names by ID."""
        query = "SELECT id, name FROM graph_clusters WHERE user_id = %(user)s ORDER BY id"
        found = dict(outcomes.rows(self.database, query, user=USER))
        self.checklist.check(
            "graph_clusters", found, expected=dict(names), shown=f"{len(found)}: {'; '.join(found.values())}"
        )

    def check_notifications(
        self, requested: Requested, expected: Mapping[str, Mapping[str, Any]], *, ignored: Collection[str] = ()
    ) -> None:
        """Wait until the notifications of a request's tasks are pushed or skipped, and check their payloads.

        Parameters:
          expected: the payload's fields to check, by notification type.
          ignored: notification types that are not checked here.
        """
        query = (
            "SELECT type, payload, push_status, push_error FROM notifications"
            " WHERE payload->>'taskId' = ANY(%(ids)s) AND NOT type = ANY(%(ignored)s) ORDER BY id"
        )

        def settled() -> list[tuple[Any, ...]] | None:
            ids = {requested.id, *requested.task_ids}
            rows = outcomes.rows(self.database, query, ids=list(ids), ignored=list(ignored))
            waiting = [status for _, _, status, _ in rows if status in ("PENDING", "SENDING")]
            return None if waiting or len(rows) < len(expected) else rows

        found = outcomes.wait_for(settled, timeout_s=TIMEOUT_S) or []
        types = [type_ for type_, *_ in found]
        if sorted(types) != sorted(expected):
            self.checklist.check("notifications", sorted(types), expected=sorted(expected))
        for type_, payload, status, reason in found:
            wanted = expected.get(type_, {})
            fields = ", ".join(
                f"{name} {value}" for name, value in payload.items() if name not in ("taskId", "timestamp")
            )
            self.checklist.check(
                "notification",
                ({name: payload.get(name) for name in wanted}, status),
                expected=(dict(wanted), "SKIPPED"),
                shown=f"{type_}{': ' if fields else ''}{fields}; push {status} ({reason})",
            )


def run(console: Console) -> bool:
    """Start everything, run the demo, stop everything. Returns whether all checks passed.

    Raises LocalStackError, PostgresError, SchemaError or WorkerError if the stack does not start.
    """
    started = time.monotonic()
    checklist = Checklist(console)
    console.print("The demo plays the API server, a stand-in the AI server. All else is real.")
    checklist.heading("Starting, with all data in temporary directories")

    def tell(line: str) -> None:
        checklist.note(f"after {time.monotonic() - started:.1f} s", line)

    with console.status("Starting PostgreSQL and LocalStack …") as status, running_stack(tell=tell) as stack:
        status.update("Starting the worker and the stand-in AI server …")
        environment = {**stack.environment, "GRAPHNODE_LOG_FORMAT": "console"}
        with StandIn(environment, *FAULTS) as stand_in, Worker(environment) as worker:
            worker.wait_until_ready()
            tell("The worker is ready: dramatiq graphnode.actors")
            stand_in.wait_until_ready()
            tell(f"The stand-in AI server is ready: graphnode ai {' '.join(FAULTS)}")
            status.update("Running …")
            run_steps(checklist, stack.environment)
            status.update("Stopping …")
            checklist.heading("The end")
            stand_in.ask_to_stop()
            checklist.check("exit codes", (worker.stop(), stand_in.stop()), expected=(0, 0), shown="0 and 0")
        if checklist.failed:
            for service in (worker, stand_in):
                checklist.heading(f"The log of the {service.name}, its last lines")
                console.print(Text(service.log.tail()), soft_wrap=True)
    checklist.note("stopped", f"everything, after {time.monotonic() - started:.1f} s")
    checklist.verdict()
    return not checklist.failed


def run_steps(checklist: Checklist, environment: Mapping[str, str]) -> None:
    """Run all steps, or those before a failed one."""
    sqs = sqs_client(environment)
    open_database(environment["DATABASE_URL"])
    try:
        with outcomes.reading(environment["DATABASE_URL"]) as database:
            requests = Requests(sqs, queue_url=environment["SQS_REQUEST_QUEUE_URL"])
            demo = Demo(checklist, environment, sqs, s3_client(environment), database, requests)
            with contextlib.suppress(StepFailed):
                generated = generate_graph(demo)
                summarize_graph(demo, generated)
                add_nodes(demo, generated)
                ingest_document(demo)
                send_bad_messages(demo)
    finally:
        close_database()


class Generated(NamedTuple):
    """The graph of the first step.

    Parameters:
      nodes, edges: the numbers of stored rows.
      clusters: the names of its clusters, by ID.
    """

    requested: Requested
    nodes: int
    edges: int
    clusters: dict[str, str]


def generate_graph(demo: Demo) -> Generated:
    """A folder becomes a graph with embeddings and a summary."""
    demo.checklist.heading("1. A folder of text becomes a graph")
    prefix = demo.upload("sources")
    requested = demo.requests.graph(GraphGenerationRequest(user_id=USER, s3_key=prefix, include_summary=True))
    demo.show_request("GRAPH_GENERATION_REQUEST", requested)
    (task,) = demo.check_tasks(requested, GRAPH)
    check_progress(demo, requested)
    documents = demo.documents(requested, GRAPH)
    graph = documents["graph.json"]
    warnings = task.warnings or {}
    shown = ", ".join(f"{text}: {count}" for text, count in warnings.items())
    demo.checklist.check("left out", list(warnings.values()), expected=[1] * BAD_EDGES, shown=shown)
    sources = count_sources(CORPUS / "sources")
    nodes, edges = sources.total(), len(graph["edges"]) - BAD_EDGES
    clusters = {node["cluster_id"]: node["cluster_name"] for node in graph["nodes"]}
    demo.check_graph(status="CREATED")
    demo.check_clusters(clusters)
    demo.check_counts(
        {
            "graph_nodes": nodes,
            "graph_edges": edges,
            "graph_subclusters": len(graph["subclusters"]),
            "node_embeddings": len(documents["features.json"]["embeddings"]),
            "graph_summaries": 1,
        }
    )
    check_totals(demo, sources, documents["summary.json"])
    show_clusters(demo)
    demo.check_notifications(
        requested,
        {
            "GRAPH_GENERATION_REQUESTED": {},
            "GRAPH_GENERATION_COMPLETED": {"nodeCount": nodes, "edgeCount": edges},
        },
        ignored=("GRAPH_GENERATION_PROGRESS_UPDATED",),
    )
    return Generated(requested, nodes, edges, clusters)


def summarize_graph(demo: Demo, generated: Generated) -> None:
    """A new summary of the same graph, in another language."""
    demo.checklist.heading("2. A new summary of the graph, in German")
    key = demo.result_keys(generated.requested, GRAPH)["graph.json"]
    requested = demo.requests.summary(GraphSummaryRequest(user_id=USER, graph_s3_key=key, language="de"))
    demo.show_request("GRAPH_SUMMARY_REQUEST", requested)
    demo.check_tasks(requested, SUMMARY)
    summary = demo.documents(requested, SUMMARY)["summary.json"]
    for column in ("clusters", "patterns", "connections", "recommendations"):
        query = f"SELECT jsonb_array_length({column}) FROM graph_summaries WHERE user_id = %(user)s"  # noqa: S608
        demo.check_value(column, query, user=USER, expected=len(summary[column]))
    text = demo.value("SELECT overview->>'summary_text' FROM graph_summaries WHERE user_id = %(user)s", user=USER)
    expected = summary["overview"]["summary_text"]
    demo.checklist.check("summary text", text, expected=expected, shown=beginning(expected))
    check_totals(demo, count_sources(CORPUS / "sources"), summary)
    demo.check_notifications(requested, {"GRAPH_SUMMARY_REQUESTED": {}, "GRAPH_SUMMARY_COMPLETED": {}})


def add_nodes(demo: Demo, generated: Generated) -> None:
    """New sources for that graph."""
    demo.checklist.heading("3. New sources for the graph")
    requested = demo.requests.add_node(AddNodeRequest(user_id=USER, s3_key=demo.upload("later")))
    demo.show_request("ADD_NODE_REQUEST", requested)
    demo.check_tasks(requested, ADD_NODE)
    results = demo.documents(requested, ADD_NODE)["add_node.json"]["results"]
    assigned = {result["nodes"][0]["origId"]: result["assignedCluster"] for result in results}
    # No source of the batch is known, and none of its edges is repeated: all of them are new rows.
    edges = sum(len(result["edges"]) for result in results)
    demo.check_graph(status="UPDATED")
    demo.check_clusters({cluster["clusterId"]: cluster["name"] for cluster in assigned.values()} | generated.clusters)
    demo.check_counts({"graph_nodes": generated.nodes + len(assigned), "graph_edges": generated.edges + edges})
    for raw_id, cluster in assigned.items():
        orig_id = original_id(raw_id, user_id=USER)
        query = "SELECT cluster_name FROM graph_nodes WHERE user_id = %(user)s AND orig_id = %(orig_id)s"
        found = demo.value(query, user=USER, orig_id=orig_id)
        reason = "new" if cluster["isNewCluster"] else cluster["reasoning"].rpartition(": ")[2]
        label = orig_id if len(orig_id) <= LABEL_WIDTH else f"{orig_id[: LABEL_WIDTH - 1]}…"
        demo.checklist.check(label, found, expected=cluster["name"], shown=f"{found} ({reason})")
    demo.check_notifications(
        requested,
        {
            "ADD_CONVERSATION_REQUESTED": {},
            "ADD_CONVERSATION_COMPLETED": {"nodeCount": len(assigned), "edgeCount": edges},
        },
    )


def ingest_document(demo: Demo) -> None:
    """A microscope document in two halves, which completes its workspace."""
    demo.checklist.heading("4. A document under the microscope, in two halves")
    workspace_id = str(ULID())
    payload = MicroscopeIngestRequest(
        user_id=USER, s3_key=f"input/{USER}/sources/{MICROSCOPED}", group_id=workspace_id, file_name=MICROSCOPED
    )
    requested = demo.requests.microscope(payload, in_halves=True, workspace_name="Sauerteig")
    demo.show_request("MICROSCOPE_INGEST_REQUEST", requested)
    demo.check_tasks(requested, MICROSCOPE)
    documents = demo.documents(requested, MICROSCOPE)
    chunks, blocks = documents["standardized.json"], documents["block_graph.json"]["block_graph"]
    query = "SELECT status FROM microscope_documents WHERE id = %(id)s"
    demo.check_value("document", query, id=requested.id, expected="COMPLETED")
    graph = "SELECT jsonb_array_length({}) FROM microscope_graphs WHERE document_id = %(id)s AND view = %(view)s"
    demo.check_value("chunks", graph.format("graph"), id=requested.id, view="non_block", expected=len(chunks))
    for part in ("blocks", "edges"):
        query = graph.format(f"graph->'{part}'")
        demo.check_value(f"block graph {part}", query, id=requested.id, view="block", expected=len(blocks[part]))
    headings = [line[3:] for line in (CORPUS / "sources" / MICROSCOPED).read_text().splitlines() if line[:3] == "## "]
    titles = [block["title"] for block in blocks["blocks"]]
    demo.checklist.check("titles", titles[-len(headings) :], expected=headings, shown=", ".join(titles))
    demo.check_notifications(
        requested,
        {
            "MICROSCOPE_INGEST_REQUESTED": {},
            "MICROSCOPE_DOCUMENT_COMPLETED": {"sourceId": Path(MICROSCOPED).stem, "chunksCount": len(chunks)},
            "MICROSCOPE_WORKSPACE_COMPLETED": {"groupId": workspace_id, "completedCount": 1, "failedCount": 0},
        },
    )


def send_bad_messages(demo: Demo) -> None:
    """A request without input, and poison messages."""
    demo.checklist.heading("5. A request without input, and messages that nobody can handle")
    payload = GraphGenerationRequest(user_id=USER, s3_key=f"input/{USER}/nowhere/")
    requested = demo.requests.graph(payload)
    demo.show_request("GRAPH_GENERATION_REQUEST", requested)
    (task,) = demo.check_tasks(requested, GRAPH, expected="FAILED")
    error = f"There are no objects under s3://{demo.bucket}/{payload.s3_key}."
    demo.checklist.check("error", task.error, expected=error)
    demo.check_graph(status="UPDATED")
    demo.check_notifications(
        requested,
        {"GRAPH_GENERATION_REQUESTED": {}, "GRAPH_GENERATION_FAILED": {"error": error}},
        ignored=("GRAPH_GENERATION_PROGRESS_UPDATED",),
    )
    unknown = result_of(ResultKind("VIDEO_INGEST_RESULT", "task_video"), user_id=USER, documents={})
    check_dead_letters(demo, "SQS_REQUEST_QUEUE_URL", {BROKEN_REQUEST: "INVALID_ENVELOPE"})
    check_dead_letters(
        demo, "SQS_RESULT_QUEUE_URL", {BROKEN_RESULT: "INVALID_ENVELOPE", unknown.body: "UNKNOWN_TASK_TYPE"}
    )


def check_dead_letters(demo: Demo, queue: str, expected: Mapping[str, str]) -> None:
    """Send messages, and check that they become dead letters.

    Parameters:
      queue: the environment variable that names the queue.
      expected: the dead letter's reason, by the message's body.
    """
    queue_url = demo.environment[queue]
    for body in expected:
        demo.sqs.send_message(QueueUrl=queue_url, MessageBody=body)
        demo.checklist.note(f"{queue.split('_')[1].lower()} queue", beginning(body))
    letters_url = dead_letter_url(demo.sqs, queue_url)

    def all_letters() -> list[outcomes.QueuedLetter] | None:
        letters = outcomes.dead_letters(demo.sqs, letters_url)
        return letters if len(letters) >= len(expected) else None

    letters = outcomes.wait_for(all_letters, timeout_s=TIMEOUT_S) or []
    name = letters_url.rpartition("/")[2]
    demo.checklist.check("dead letters", len(letters), expected=len(expected), shown=f"{len(letters)} on {name}")
    demo.checklist.check(
        "bodies",
        sorted(letter.body.encode() for letter in letters),
        expected=sorted(body.encode() for body in expected),
        shown="as they were sent, byte for byte",
    )
    for letter in sorted(letters):
        reason, error = letter.attributes.get("reason"), letter.attributes.get("error", "")
        shown = f"{reason} at attempt {letter.attributes.get('attempt')}: {beginning(error)}"
        demo.checklist.check("reason", reason, expected=expected.get(letter.body), shown=shown)
    is_empty = outcomes.wait_for(lambda: outcomes.is_empty(demo.sqs, queue_url) or None, timeout_s=TIMEOUT_S)
    demo.checklist.check("queue", is_empty, expected=True, shown="empty")


def check_progress(demo: Demo, requested: Requested) -> None:
    """Check that the user got progress notifications with rising percentages."""
    query = (
        "SELECT payload->>'currentStage', (payload->>'progressPercent')::float FROM notifications"
        " WHERE type = 'GRAPH_GENERATION_PROGRESS_UPDATED' AND payload->>'taskId' = %(id)s ORDER BY created_at"
    )
    stages = outcomes.rows(demo.database, query, id=requested.id)
    percents = [percent for _, percent in stages]
    is_rising = bool(stages) and percents == sorted(percents)
    shown = ", ".join(f"{stage} {percent:.0f} %" for stage, percent in stages)
    demo.checklist.check("progress", is_rising, expected=True, shown=shown)


def check_totals(demo: Demo, sources: Mapping[str, int], summary: Mapping[str, Any]) -> None:
    """Check that the stored summary's totals are those of the folder, not the wrong ones of the AI server."""
    overview = demo.value("SELECT overview FROM graph_summaries WHERE user_id = %(user)s", user=USER) or {}
    expected = {TOTALS[extension]: count for extension, count in sources.items()}
    found = {name: overview.get(name) for name in expected}
    counted = ", ".join(f"{count} {name.removeprefix('total_')}" for name, count in found.items())
    claimed = ", ".join(str(summary["overview"][name]) for name in expected)
    demo.checklist.check("recounted", found, expected=expected, shown=f"{counted} (the AI server says {claimed})")


def show_clusters(demo: Demo) -> None:
    """Print the titles in two of the clusters."""
    query = (
        "SELECT cluster_name, string_agg(metadata->>'title', '; ' ORDER BY id) FROM graph_nodes"
        " WHERE user_id = %(user)s GROUP BY cluster_name ORDER BY min(id) LIMIT 2"
    )
    for name, titles in outcomes.rows(demo.database, query, user=USER):
        demo.checklist.note("cluster", f"{name}: {titles}")


def beginning(text: str) -> str:
    """A text, cut at a word if it is long."""
    return textwrap.shorten(text, SHOWN, placeholder=" …")


def count_sources(folder: Path) -> Counter[str]:
    """The number of sources in a folder by file name extension. A JSON file holds a list of conversations."""
    return Counter(
        {
            extension: sum(len(json.loads(file.read_text())) if extension == ".json" else 1 for file in files)
            for extension in TOTALS
            if (files := list(folder.glob(f"*{extension}")))
        }
    )
