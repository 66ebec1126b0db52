"""The demo: the AI server and the API server are played, everything else is real.

Each thing that is shown is checked against what the documents lead one to expect, worked out here anew and simply.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg2
from rich.console import Console
from rich.text import Text
from ulid import ULID

from graphnode.dev import outcomes
from graphnode.dev.ai_server import (
    DOCUMENTS_USER,
    HALVES,
    KINDS,
    Half,
    Kind,
    Result,
    new_task_id,
    packaged_documents,
    result_of,
    send,
)
from graphnode.dev.aws import dead_letter_url, s3_client, sqs_client
from graphnode.dev.stack import running_stack
from graphnode.dev.worker import Worker
from graphnode.rules.original_ids import original_id

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from psycopg2.extensions import connection

#: Seconds that the worker has for one message; it needs a fraction of one.
TIMEOUT_S = 30.0

USER = DOCUMENTS_USER

#: Columns of a line's label.
LABEL_WIDTH = 19

#: A message that broke off, as from a producer that died.
BROKEN_BODY = '{"taskType": "GRAPH_GENERATION_RESULT", "taskId": "task_graph_demo-user_01K'

#: Where each source type is counted in a summary's overview. Other types are files.
TOTALS = {
    None: "total_conversations",
    "chat": "total_conversations",
    "markdown": "total_notes",
    "notion": "total_notions",
}


class Report:
    """What is shown, and how much of it is wrong."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.passed = 0
        self.failed = 0

    def heading(self, text: str) -> None:
        """Start a section."""
        self.console.print()
        self.console.print(Text(text, style="bold"))

    def note(self, label: str, text: str) -> None:
        """Show something that was done."""
        self._line("→", "cyan", label, text)

    def check(self, label: str, found: object, *, expected: object, shown: str | None = None) -> None:
        """Show something that was found, with ✓ if it is what was expected.

        Parameters:
          shown: the text for it when it is right, if not the value itself.
        """
        if found == expected:
            self.passed += 1
            self._line("✓", "green", label, shown or str(found))
        else:
            self.failed += 1
            self._line("✗", "bold red", label, f"{found} (expected {expected})")

    def _line(self, mark: str, style: str, label: str, text: str) -> None:
        start = Text.assemble("  ", (mark, style), " ", label.ljust(LABEL_WIDTH), " ")
        lines = Text(text).wrap(self.console, self.console.width - start.cell_len, overflow="fold")
        for number, line in enumerate(lines):
            line.rstrip()
            self.console.print((Text(" " * start.cell_len) if number else start) + line)


class SceneFailed(Exception):
    """What follows in the scene would have nothing to go on."""


class Stage(NamedTuple):
    """What the scenes are played on."""

    report: Report
    environment: Mapping[str, str]
    sqs: SQSClient
    s3: S3Client
    database: connection

    def send(self, result: Result) -> None:
        """Send a result as the AI server would, and show it."""
        send(
            result,
            sqs=self.sqs,
            s3=self.s3,
            queue_url=self.environment["SQS_RESULT_QUEUE_URL"],
            bucket=self.environment["S3_PAYLOAD_BUCKET"],
        )
        put = [f"{key.rpartition('/')[2]} ({len(content):,} bytes)" for key, content in result.documents.items()]
        self.report.note("S3", ", ".join(put))
        self.report.note("SQS", f"{result.task_type} {result.task_id}")

    def check_task(self, result: Result, *, warnings: int = 0) -> None:
        """Wait for the task's end; check it, and how much was left out of its documents.

        Raises SceneFailed when the task is not COMPLETED.
        """
        task = outcomes.wait_for(lambda: self._ended(result), timeout_s=TIMEOUT_S)
        self.report.check("task", task and task.status, expected="COMPLETED")
        if task is None or task.status != "COMPLETED":
            raise SceneFailed
        if warnings or task.warnings:
            given = task.warnings or {}
            shown = ", ".join(f"{count} {text}" for text, count in given.items())
            self.report.check("left out", sum(given.values()), expected=warnings, shown=shown)

    def _ended(self, result: Result) -> outcomes.Task | None:
        task = outcomes.task(self.database, task_id=result.task_id, task_type=result.task_type)
        return task if task and task.status != "PROGRESS" else None

    def check_value(self, label: str, query: str, *, expected: object, **values: Any) -> None:
        """Check the one value that a query gives."""
        self.report.check(label, self.value(query, **values), expected=expected)

    def check_counts(self, expected: Mapping[str, int]) -> None:
        """Check how many rows the user has in each table."""
        for table, count in expected.items():
            self.check_value(table, f"SELECT count(*) FROM {table} WHERE user_id = %(user)s", user=USER, expected=count)  # noqa: S608

    def check_clusters(self, names: Mapping[str, str]) -> None:
        """Check the names of the user's clusters, given by ID."""
        query = "SELECT id, name FROM graph_clusters WHERE user_id = %(user)s ORDER BY id"
        found = dict(outcomes.rows(self.database, query, user=USER))
        self.report.check(
            "graph_clusters", found, expected=dict(names), shown=f"{len(found)}: {', '.join(found.values())}"
        )

    def value(self, query: str, **values: Any) -> Any:
        """The first value of a query's first row, or None."""
        found = outcomes.rows(self.database, query, **values)
        return found[0][0] if found else None

    def check_notifications(self, result: Result, expected: Mapping[str, Mapping[str, Any]]) -> None:
        """Wait until a task's notifications are pushed or skipped; check each one's payload.

        Parameters:
          expected: by notification type, the payload's fields that matter.
        """
        query = (
            "SELECT type, payload, push_status, push_error FROM notifications"
            " WHERE payload->>'taskId' = %(task_id)s ORDER BY type"
        )

        def settled() -> list[tuple[Any, ...]] | None:
            rows = outcomes.rows(self.database, query, task_id=result.task_id)
            waiting = [status for _, _, status, _ in rows if status in ("PENDING", "SENDING")]
            return None if waiting or len(rows) < len(expected) else rows

        found = outcomes.wait_for(settled, timeout_s=TIMEOUT_S) or []
        kinds = [kind for kind, *_ in found]
        if not expected or kinds != sorted(expected):
            self.report.check("notifications", kinds, expected=sorted(expected), shown="none yet")
        for kind, payload, status, reason in found:
            wanted = expected.get(kind, {})
            given = {name: value for name, value in payload.items() if name != "taskId" and value is not None}
            told = ", ".join(f"{name} {value}" for name, value in given.items())
            self.report.check(
                "notification",
                ({name: payload.get(name) for name in wanted}, status),
                expected=(dict(wanted), "SKIPPED"),
                shown=f"{kind}: {told}; push {status} ({reason})",
            )


def run(console: Console) -> bool:
    """Start everything, play, show, stop everything. Whether all was as it should be.

    Raises LocalStackError, PostgresError, SchemaError or WorkerError when the stack does not start.
    """
    started = time.monotonic()
    report = Report(console)
    console.print("The AI server and the API server are played here; all else is real.")
    report.heading("Starting, in throw-away directories")

    def tell(line: str) -> None:
        report.note(f"after {time.monotonic() - started:.1f} s", line)

    with console.status("Starting PostgreSQL and LocalStack …") as status, running_stack(tell=tell) as stack:
        status.update("Starting the worker …")
        with Worker({**stack.environment, "GRAPHNODE_LOG_FORMAT": "console"}) as worker:
            worker.wait_until_ready()
            tell(f"The worker takes messages: dramatiq graphnode.actors, process {worker.pid}")
            status.update("Playing …")
            play(report, stack.environment)
            status.update("Stopping …")
            report.heading("The end")
            report.check("worker's exit code", worker.stop(), expected=0)
        if report.failed:
            report.heading("The worker's log, its last lines")
            console.print(Text(worker.log.tail()), soft_wrap=True)
    report.note("stopped", f"all of it, after {time.monotonic() - started:.1f} s")
    report.heading(verdict(report))
    return not report.failed


def verdict(report: Report) -> str:
    """The demo's last line."""
    if report.failed:
        return f"{report.failed} of {report.passed + report.failed} checks failed."
    return f"All {report.passed} checks passed."


def play(report: Report, environment: Mapping[str, str]) -> None:
    """Play the scenes, until one cannot go on."""
    with outcomes.reading(environment["DATABASE_URL"]) as database:
        stage = Stage(report, environment, sqs_client(environment), s3_client(environment), database)
        with contextlib.suppress(SceneFailed):
            for scene in SCENES:
                scene(stage)


def play_graph_generation(stage: Stage) -> None:
    """A graph with its features and its summary."""
    stage.report.heading("1. A graph, with features and summary")
    documents = packaged_documents(KINDS["graph"], user_id=USER)
    graph, summary = json.loads(documents["resultS3Key"]), json.loads(documents["summaryS3Key"])
    features = json.loads(documents["featuresS3Key"])
    edges = connected_pairs(graph)

    result = result_of(KINDS["graph"], user_id=USER, documents=documents, extra={"summaryIncluded": True})
    stage.send(result)
    stage.check_task(result, warnings=len(graph["edges"]) - len(edges))
    stage.check_value("graph", "SELECT status FROM graphs WHERE user_id = %(user)s", user=USER, expected="CREATED")
    stage.check_clusters({node["cluster_id"]: node["cluster_name"] for node in graph["nodes"]})
    stage.check_counts(
        {
            "graph_nodes": len(graph["nodes"]),
            "graph_edges": len(edges),
            "graph_subclusters": len(graph["subclusters"]),
            "node_embeddings": len(features["embeddings"]),
            "graph_summaries": 1,
        }
    )
    check_totals(stage, summary, graph)
    stage.check_notifications(
        result, {"GRAPH_GENERATION_COMPLETED": {"nodeCount": len(graph["nodes"]), "edgeCount": len(edges)}}
    )


def play_graph_summary(stage: Stage) -> None:
    """A new summary of the same graph."""
    stage.report.heading("2. A new summary of it")
    documents = packaged_documents(KINDS["summary"], user_id=USER)
    graph = json.loads(packaged_documents(KINDS["graph"], user_id=USER)["resultS3Key"])
    summary = json.loads(documents["summaryS3Key"])

    result = result_of(KINDS["summary"], user_id=USER, documents=documents)
    stage.send(result)
    stage.check_task(result)
    stage.check_value(
        "detail level",
        "SELECT detail_level FROM graph_summaries WHERE user_id = %(user)s",
        user=USER,
        expected=summary["detail_level"],
    )
    for column in ("clusters", "patterns", "connections", "recommendations"):
        query = f"SELECT jsonb_array_length({column}) FROM graph_summaries WHERE user_id = %(user)s"  # noqa: S608
        stage.check_value(column, query, user=USER, expected=len(summary[column]))
    check_totals(stage, summary, graph)
    stage.check_notifications(result, {"GRAPH_SUMMARY_COMPLETED": {}})


def play_add_node(stage: Stage) -> None:
    """New sources for that graph."""
    stage.report.heading("3. New sources for the graph")
    documents = packaged_documents(KINDS["add-node"], user_id=USER)
    graph = json.loads(packaged_documents(KINDS["graph"], user_id=USER)["resultS3Key"])
    merged = merge(graph, json.loads(documents["resultS3Key"]))

    result = result_of(KINDS["add-node"], user_id=USER, documents=documents)
    stage.send(result)
    stage.check_task(result)
    stage.check_value("graph", "SELECT status FROM graphs WHERE user_id = %(user)s", user=USER, expected="UPDATED")
    stage.check_clusters({cluster: merged.cluster_names[cluster] for cluster in merged.cluster_of.values()})
    stage.check_counts({"graph_nodes": len(merged.cluster_of), "graph_edges": len(merged.edges)})
    for orig_id, cluster in merged.moved.items():
        query = "SELECT cluster_id FROM graph_nodes WHERE user_id = %(user)s AND orig_id = %(orig_id)s"
        stage.check_value(f"{orig_id[:8]}… moved to", query, user=USER, orig_id=orig_id, expected=cluster)
    counts = {"nodeCount": merged.new_nodes, "edgeCount": merged.new_edges}
    stage.check_notifications(result, {"ADD_CONVERSATION_COMPLETED": counts})


def play_microscope(stage: Stage) -> None:
    """A document that is ingested in two halves; it completes its workspace."""
    stage.report.heading("4. A document under the microscope, in two halves")
    kind = KINDS["microscope"]
    document_id, workspace_id = new_task_id(kind, user_id=USER), str(ULID())
    register_document(stage, document_id, workspace_id)
    stage.report.note("API server", f"workspace {workspace_id} with one document")
    halves = {half: packaged_documents(kind, user_id=USER, half=half) for half in HALVES}
    chunks = json.loads(halves["nonblock"][HALVES["nonblock"]])
    blocks = json.loads(halves["block"][HALVES["block"]])["block_graph"]

    def play_half(half: Half, *, document_status: str, notifications: Mapping[str, Mapping[str, Any]]) -> None:
        result = result_of(
            kind,
            user_id=USER,
            documents=halves[half],
            task_id=document_id,
            half=half,
            group_id=workspace_id,
            extra={"sourceId": "uf-sauerteig", "chunks_count": len(chunks), "schema_name": "general"},
        )
        stage.send(result)
        stage.check_task(result)
        query = "SELECT status FROM microscope_documents WHERE id = %(id)s"
        stage.check_value("document", query, id=document_id, expected=document_status)
        stage.check_notifications(result, notifications)

    play_half("block", document_status="PROCESSING", notifications={})
    play_half(
        "nonblock",
        document_status="COMPLETED",
        notifications={
            "MICROSCOPE_DOCUMENT_COMPLETED": {"sourceId": "uf-sauerteig", "chunksCount": len(chunks)},
            "MICROSCOPE_WORKSPACE_COMPLETED": {"groupId": workspace_id, "completedCount": 1, "failedCount": 0},
        },
    )
    graph = "SELECT jsonb_array_length({}) FROM microscope_graphs WHERE document_id = %(id)s AND view = %(view)s"
    stage.check_value("chunks", graph.format("graph"), id=document_id, view="non_block", expected=len(chunks))
    for part in ("blocks", "edges"):
        query = graph.format(f"graph->'{part}'")
        stage.check_value(f"block graph {part}", query, id=document_id, view="block", expected=len(blocks[part]))


def play_bad_messages(stage: Stage) -> None:
    """Two messages that nobody can handle."""
    stage.report.heading("5. A message that broke off, and one of an unknown type")
    unknown = result_of(Kind("VIDEO_INGEST_RESULT", "task_video", {"resultS3Key": ""}), user_id=USER, documents={})
    expected = {BROKEN_BODY: "INVALID_ENVELOPE", unknown.body: "UNKNOWN_TASK_TYPE"}
    queue_url = stage.environment["SQS_RESULT_QUEUE_URL"]
    for body in expected:
        stage.sqs.send_message(QueueUrl=queue_url, MessageBody=body)
        stage.report.note("SQS", body)

    letters_url = dead_letter_url(stage.sqs, queue_url)

    def all_letters() -> list[outcomes.DeadLetter] | None:
        letters = outcomes.dead_letters(stage.sqs, letters_url)
        return letters if len(letters) >= len(expected) else None

    letters = outcomes.wait_for(all_letters, timeout_s=TIMEOUT_S) or []
    name = letters_url.rpartition("/")[2]
    stage.report.check("dead letters", len(letters), expected=len(expected), shown=f"{len(letters)} on {name}")
    stage.report.check(
        "bodies",
        sorted(letter.body.encode() for letter in letters),
        expected=sorted(body.encode() for body in expected),
        shown="as they were sent, byte for byte",
    )
    for letter in letters:
        reason, error = letter.attributes.get("reason"), letter.attributes.get("error")
        shown = f"{reason} at attempt {letter.attributes.get('attempt')}: {error}"
        stage.report.check("reason", reason, expected=expected.get(letter.body), shown=shown)
    emptied = outcomes.wait_for(lambda: outcomes.is_empty(stage.sqs, queue_url) or None, timeout_s=TIMEOUT_S)
    stage.report.check("result queue", emptied, expected=True, shown="empty")


#: In their order: later ones build on what earlier ones stored.
SCENES: tuple[Callable[[Stage], None], ...] = (
    play_graph_generation,
    play_graph_summary,
    play_add_node,
    play_microscope,
    play_bad_messages,
)


def register_document(stage: Stage, document_id: str, workspace_id: str) -> None:
    """Do what the API server does before it has a document ingested."""
    with (
        closing(psycopg2.connect(stage.environment["DATABASE_URL"])) as database,
        database,
        database.cursor() as cursor,
    ):
        cursor.execute(
            "INSERT INTO microscope_workspaces (id, user_id, name) VALUES (%s, %s, %s)",
            (workspace_id, USER, "Sauerteig"),
        )
        cursor.execute(
            "INSERT INTO microscope_documents (id, workspace_id, user_id, status) VALUES (%s, %s, %s, 'PROCESSING')",
            (document_id, workspace_id, USER),
        )


def check_totals(stage: Stage, summary: Mapping[str, Any], graph: Mapping[str, Any]) -> None:
    """Check that the summary's totals are those of the nodes, not the AI server's."""
    overview = stage.value("SELECT overview FROM graph_summaries WHERE user_id = %(user)s", user=USER) or {}
    expected = Counter(TOTALS.get(node.get("source_type"), "total_files") for node in graph["nodes"])
    counted = ", ".join(f"{overview.get(name)} {name.removeprefix('total_')}" for name in expected)
    claimed = ", ".join(str(summary["overview"][name]) for name in expected)
    stage.report.check(
        "recounted",
        {name: overview.get(name) for name in expected},
        expected=dict(expected),
        shown=f"{counted} (the AI server says {claimed})",
    )


def connected_pairs(graph: Mapping[str, Any]) -> set[frozenset[int]]:
    """The nodes that a graph connects: each pair once, none with itself, none that does not exist."""
    nodes = {node["id"] for node in graph["nodes"]}
    pairs = {frozenset((edge["source"], edge["target"])) for edge in graph["edges"]}
    return {pair for pair in pairs if len(pair) == 2 and pair <= nodes}


class Merged(NamedTuple):
    """A graph after a batch of new sources.

    Parameters:
      cluster_of: the cluster of each node, by original ID.
      cluster_names: by cluster; also of clusters that have no nodes any more.
      edges: the connected pairs of original IDs.
      moved: stored nodes that changed cluster, with the new one.
    """

    cluster_of: dict[str, str]
    cluster_names: dict[str, str]
    edges: set[frozenset[str]]
    new_nodes: int
    new_edges: int
    moved: dict[str, str]


def merge(graph: Mapping[str, Any], batch: Mapping[str, Any]) -> Merged:
    """What the packaged graph becomes with the packaged batch."""
    names = {node["id"]: original_id(node["orig_id"]) for node in graph["nodes"]}
    before = {names[node["id"]]: node["cluster_id"] for node in graph["nodes"]}
    old_edges = {frozenset(names[node] for node in pair) for pair in connected_pairs(graph)}
    results = [result for result in batch["results"] if not result["skipped"] and not result["error"]]
    nodes = [node for result in results for node in result["nodes"]]
    given = {original_id(node["origId"], user_id=USER): node["clusterId"] for node in nodes}

    def name(end: str | int) -> str:
        text = str(end)
        return names[int(text)] if text.isdecimal() else original_id(text, user_id=USER)

    ends = [(edge["source"], edge["target"]) for result in results for edge in result["edges"]]
    edges = {frozenset((name(source), name(target))) for source, target in ends}
    known = before.keys() | given.keys()
    edges = {pair for pair in edges if len(pair) == 2 and pair <= known}
    return Merged(
        cluster_of=before | given,
        cluster_names={node["clusterId"]: node["clusterName"] for node in nodes}
        | {node["cluster_id"]: node["cluster_name"] for node in graph["nodes"]},
        edges=old_edges | edges,
        new_nodes=len(given.keys() - before.keys()),
        new_edges=len(edges - old_edges),
        moved={node: cluster for node, cluster in given.items() if before.get(node, cluster) != cluster},
    )
