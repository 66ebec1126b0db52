"""The demo: a folder of real text becomes a graph. The API server is played, and a stand-in is the AI server.

Each thing that is shown is checked against what the folder and the documents lead one to expect, worked out here anew
and simply.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.cells import set_cell_size
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
from graphnode.dev.aws import dead_letter_url, s3_client, sqs_client
from graphnode.dev.samples import DOCUMENTS_USER, Kind, result_of
from graphnode.dev.stack import running_stack
from graphnode.dev.worker import StandIn, Worker
from graphnode.requests import Requested, Requests
from graphnode.storage.database import close_database, open_database

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from psycopg2.extensions import connection

#: Seconds that a request has to be served; it needs a fraction of them.
TIMEOUT_S = 30.0

USER = DOCUMENTS_USER

#: The folder of text: what a graph is made of, and what comes later.
CORPUS = Path(graphnode.dev.ai.__file__).with_name("corpus")

#: The document that is put under the microscope.
MICROSCOPED = "sauerteig.md"

#: Odd sides of the real AI server that its stand-in shows here: the worker makes up for them.
ODD = ("--odd", "1", "--side", "bad-edges", "--side", "wrong-totals")

#: Columns of a line's label.
LABEL_WIDTH = 19

#: Characters that are shown of a message.
SHOWN = 100

#: Messages that broke off, as from a producer that died.
BROKEN_RESULT = '{"taskType": "GRAPH_GENERATION_RESULT", "taskId": "task_graph_demo-user_01K'
BROKEN_REQUEST = '{"taskType": "ADD_NODE_REQUEST", "payload": {"userId": "demo-user", "s3K'

#: Where a folder's files, by their ending, are counted in a summary's overview.
TOTALS = {".json": "total_conversations", ".md": "total_notes", ".txt": "total_files"}

#: The type of the result that ends each task.
GRAPH, SUMMARY, ADD_NODE = "GRAPH_GENERATION_RESULT", "GRAPH_SUMMARY_RESULT", "ADD_NODE_RESULT"
MICROSCOPE = "MICROSCOPE_INGEST_RESULT"


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
        start = Text.assemble("  ", (mark, style), " ", set_cell_size(label, LABEL_WIDTH), " ")
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
    requests: Requests

    def upload(self, name: str) -> str:
        """Put a folder of the corpus into S3, as the API server does; the prefix it has there."""
        prefix = f"input/{USER}/{name}/"
        files = sorted((CORPUS / name).iterdir())
        for file in files:
            self.s3.put_object(Bucket=self.bucket, Key=prefix + file.name, Body=file.read_bytes())
        size = sum(file.stat().st_size for file in files)
        self.report.note("S3", f"{len(files)} files ({size:,} bytes) of graphnode/dev/ai/corpus/{name} to {prefix}")
        return prefix

    @property
    def bucket(self) -> str:
        """The payload bucket."""
        return self.environment["S3_PAYLOAD_BUCKET"]

    def show_request(self, request_type: str, requested: Requested) -> None:
        """Show what the API server asked for."""
        for task_id in requested.task_ids:
            self.report.note("request queue", f"{request_type} {task_id}")

    def check_tasks(self, requested: Requested, task_type: str, *, expected: str = "COMPLETED") -> list[outcomes.Task]:
        """Wait for the end of a request's tasks, and check it.

        Raises SceneFailed when one does not end so.
        """

        def all_ended() -> list[outcomes.Task] | None:
            found = [
                outcomes.task(self.database, task_id=task_id, task_type=task_type) for task_id in requested.task_ids
            ]
            ended = [task for task in found if task and task.status not in ("PENDING", "PROGRESS")]
            return ended if len(ended) == len(found) else None

        tasks = outcomes.wait_for(all_ended, timeout_s=TIMEOUT_S) or []
        statuses = [task.status for task in tasks]
        self.report.check("task", statuses, expected=[expected] * len(requested.task_ids), shown=", ".join(statuses))
        if statuses != [expected] * len(requested.task_ids):
            raise SceneFailed
        return tasks

    def documents(self, requested: Requested, task_type: str) -> dict[str, Any]:
        """The documents that tasks' results named, by file name; shown with their size."""
        query = (
            "SELECT DISTINCT key FROM tasks, jsonb_array_elements_text(s3_keys) AS key"
            " WHERE task_id = ANY(%(ids)s) AND task_type = %(type)s AND key LIKE %(result)s ORDER BY key"
        )
        keys = outcomes.rows(
            self.database, query, ids=list(requested.task_ids), type=task_type, result=f"ai/{task_type.lower()}/%"
        )
        found = {
            key.rpartition("/")[2]: self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read() for (key,) in keys
        }
        self.report.note("S3", ", ".join(f"{name} ({len(content):,} bytes)" for name, content in found.items()))
        return {name: json.loads(content) for name, content in found.items()}

    def key_of(self, requested: Requested, name: str) -> str:
        """The key of a result's document."""
        query = (
            "SELECT key FROM tasks, jsonb_array_elements_text(s3_keys) AS key"
            " WHERE task_id = %(id)s AND key LIKE %(name)s"
        )
        return str(self.value(query, id=requested.id, name=f"%/{name}"))

    def check_value(self, label: str, query: str, *, expected: object, **values: Any) -> None:
        """Check the one value that a query gives."""
        self.report.check(label, self.value(query, **values), expected=expected)

    def check_graph(self, *, status: str) -> None:
        """Check the status of the user's graph."""
        self.check_value("graph", "SELECT status FROM graphs WHERE user_id = %(user)s", user=USER, expected=status)

    def check_counts(self, expected: Mapping[str, int]) -> None:
        """Check how many rows the user has in each table."""
        for table, count in expected.items():
            self.check_value(table, f"SELECT count(*) FROM {table} WHERE user_id = %(user)s", user=USER, expected=count)  # noqa: S608

    def check_clusters(self, names: Mapping[str, str]) -> None:
        """Check the names of the user's clusters, given by ID."""
        query = "SELECT id, name FROM graph_clusters WHERE user_id = %(user)s ORDER BY id"
        found = dict(outcomes.rows(self.database, query, user=USER))
        self.report.check(
            "graph_clusters", found, expected=dict(names), shown=f"{len(found)}: {'; '.join(found.values())}"
        )

    def value(self, query: str, **values: Any) -> Any:
        """The first value of a query's first row, or None."""
        found = outcomes.rows(self.database, query, **values)
        return found[0][0] if found else None

    def check_notifications(
        self, requested: Requested, expected: Mapping[str, Mapping[str, Any]], *, untold: Collection[str] = ()
    ) -> None:
        """Wait until tasks' notifications are pushed or skipped; check each one's payload.

        Parameters:
          expected: by notification type, the payload's fields that matter.
          untold: types that are not looked at here.
        """
        query = (
            "SELECT type, payload, push_status, push_error FROM notifications"
            " WHERE payload->>'taskId' = ANY(%(ids)s) AND NOT type = ANY(%(untold)s) ORDER BY type"
        )

        def settled() -> list[tuple[Any, ...]] | None:
            rows = outcomes.rows(self.database, query, ids=list(requested.task_ids), untold=list(untold))
            waiting = [status for _, _, status, _ in rows if status in ("PENDING", "SENDING")]
            return None if waiting or len(rows) < len(expected) else rows

        found = outcomes.wait_for(settled, timeout_s=TIMEOUT_S) or []
        kinds = [kind for kind, *_ in found]
        if kinds != sorted(expected):
            self.report.check("notifications", kinds, expected=sorted(expected))
        for kind, payload, status, reason in found:
            wanted = expected.get(kind, {})
            given = {name: value for name, value in payload.items() if name != "taskId" and value is not None}
            told = ", ".join(f"{name} {value}" for name, value in given.items())
            self.report.check(
                "notification",
                ({name: payload.get(name) for name in wanted}, status),
                expected=(dict(wanted), "SKIPPED"),
                shown=f"{kind}{': ' if told else ''}{told}; push {status} ({reason})",
            )


def run(console: Console) -> bool:
    """Start everything, play, show, stop everything. Whether all was as it should be.

    Raises LocalStackError, PostgresError, SchemaError or WorkerError when the stack does not start.
    """
    started = time.monotonic()
    report = Report(console)
    console.print("The API server is played, the AI server has a stand-in; all else is real.")
    report.heading("Starting, in throw-away directories")

    def tell(line: str) -> None:
        report.note(f"after {time.monotonic() - started:.1f} s", line)

    with console.status("Starting PostgreSQL and LocalStack …") as status, running_stack(tell=tell) as stack:
        status.update("Starting the worker and the stand-in AI server …")
        environment = {**stack.environment, "GRAPHNODE_LOG_FORMAT": "console"}
        with StandIn(environment, *ODD) as stand_in, Worker(environment) as worker:
            worker.wait_until_ready()
            tell(f"The worker takes messages: dramatiq graphnode.actors, process {worker.pid}")
            stand_in.wait_until_ready()
            tell(f"The stand-in AI server takes requests: graphnode ai {' '.join(ODD)}, process {stand_in.pid}")
            status.update("Playing …")
            play(report, stack.environment)
            status.update("Stopping …")
            report.heading("The end")
            stand_in.ask_to_stop()
            report.check("exit codes", (worker.stop(), stand_in.stop()), expected=(0, 0), shown="0 and 0")
        if report.failed:
            for service in (worker, stand_in):
                report.heading(f"The log of the {service.name}, its last lines")
                console.print(Text(service.log.tail()), soft_wrap=True)
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
    sqs = sqs_client(environment)
    open_database(environment["DATABASE_URL"], max_connections=1)
    try:
        with outcomes.reading(environment["DATABASE_URL"]) as database:
            requests = Requests(sqs, queue_url=environment["SQS_REQUEST_QUEUE_URL"])
            stage = Stage(report, environment, sqs, s3_client(environment), database, requests)
            with contextlib.suppress(SceneFailed):
                made = play_graph_generation(stage)
                play_graph_summary(stage, made)
                play_add_node(stage, made)
                play_microscope(stage)
                play_bad_messages(stage)
    finally:
        close_database()


class Made(NamedTuple):
    """The graph that the first scene made."""

    requested: Requested
    graph: dict[str, Any]


def play_graph_generation(stage: Stage) -> Made:
    """A folder becomes a graph with its features and its summary."""
    stage.report.heading("1. A folder of text becomes a graph")
    prefix = stage.upload("sources")
    requested = stage.requests.graph(GraphGenerationRequest(user_id=USER, s3_key=prefix, include_summary=True))
    stage.show_request("GRAPH_GENERATION_REQUEST", requested)
    (task,) = stage.check_tasks(requested, GRAPH)
    check_progress(stage, requested)
    documents = stage.documents(requested, GRAPH)
    graph = documents["graph.json"]
    edges = connected_pairs(graph)
    left_out = task.warnings or {}
    shown = ", ".join(f"{count} {text}" for text, count in left_out.items())
    stage.report.check("left out", sum(left_out.values()), expected=len(graph["edges"]) - len(edges), shown=shown)
    sources = count_sources(CORPUS / "sources")
    stage.check_graph(status="CREATED")
    stage.check_clusters({node["cluster_id"]: node["cluster_name"] for node in graph["nodes"]})
    stage.check_counts(
        {
            "graph_nodes": sources.total(),
            "graph_edges": len(edges),
            "graph_subclusters": len(graph["subclusters"]),
            "node_embeddings": len(documents["features.json"]["embeddings"]),
            "graph_summaries": 1,
        }
    )
    check_totals(stage, sources, documents["summary.json"])
    show_clusters(stage)
    stage.check_notifications(
        requested,
        {"GRAPH_GENERATION_COMPLETED": {"nodeCount": sources.total(), "edgeCount": len(edges)}},
        untold=("GRAPH_GENERATION_PROGRESS_UPDATED",),
    )
    return Made(requested, graph)


def play_graph_summary(stage: Stage, made: Made) -> None:
    """A new summary of the same graph, in another language."""
    stage.report.heading("2. A new summary of it, in German")
    payload = GraphSummaryRequest(user_id=USER, graph_s3_key=stage.key_of(made.requested, "graph.json"), language="de")
    requested = stage.requests.summary(payload)
    stage.show_request("GRAPH_SUMMARY_REQUEST", requested)
    stage.check_tasks(requested, SUMMARY)
    summary = stage.documents(requested, SUMMARY)["summary.json"]
    for column in ("clusters", "patterns", "connections", "recommendations"):
        query = f"SELECT jsonb_array_length({column}) FROM graph_summaries WHERE user_id = %(user)s"  # noqa: S608
        stage.check_value(column, query, user=USER, expected=len(summary[column]))
    text = stage.value("SELECT overview->>'summary_text' FROM graph_summaries WHERE user_id = %(user)s", user=USER)
    expected = summary["overview"]["summary_text"]
    stage.report.check("summary text", text, expected=expected, shown=f"{expected[:SHOWN]} …")
    check_totals(stage, count_sources(CORPUS / "sources"), summary)
    stage.check_notifications(requested, {"GRAPH_SUMMARY_COMPLETED": {}})


def play_add_node(stage: Stage, made: Made) -> None:
    """New sources for that graph."""
    stage.report.heading("3. New sources for the graph")
    requested = stage.requests.add_node(AddNodeRequest(user_id=USER, s3_key=stage.upload("later")))
    stage.show_request("ADD_NODE_REQUEST", requested)
    stage.check_tasks(requested, ADD_NODE)
    batch = stage.documents(requested, ADD_NODE)["add_node.json"]
    merged = merge(made.graph, batch)
    stage.check_graph(status="UPDATED")
    stage.check_clusters({cluster: merged.cluster_names[cluster] for cluster in merged.cluster_of.values()})
    stage.check_counts({"graph_nodes": len(merged.cluster_of), "graph_edges": len(merged.edges)})
    for result in batch["results"]:
        node, cluster = result["nodes"][0], result["assignedCluster"]
        query = "SELECT cluster_name FROM graph_nodes WHERE user_id = %(user)s AND orig_id = %(orig_id)s"
        found = stage.value(query, user=USER, orig_id=original_id(node["origId"], user_id=USER))
        shown = f"{found} ({'new' if cluster['isNewCluster'] else cluster['reasoning'].rpartition(': ')[2]})"
        stage.report.check(title_of(node["origId"]), found, expected=cluster["name"], shown=shown)
    counts = {"nodeCount": merged.new_nodes, "edgeCount": merged.new_edges}
    stage.check_notifications(requested, {"ADD_CONVERSATION_COMPLETED": counts})


def play_microscope(stage: Stage) -> None:
    """A document that is ingested in two halves; it completes its workspace."""
    stage.report.heading("4. A document under the microscope, in two halves")
    workspace_id = str(ULID())
    payload = MicroscopeIngestRequest(
        user_id=USER, s3_key=f"input/{USER}/sources/{MICROSCOPED}", group_id=workspace_id, file_name=MICROSCOPED
    )
    requested = stage.requests.microscope(payload, in_halves=True, workspace_name="Sauerteig")
    stage.show_request("MICROSCOPE_INGEST_REQUEST", requested)
    stage.check_tasks(requested, MICROSCOPE)
    documents = stage.documents(requested, MICROSCOPE)
    chunks, blocks = documents["standardized.json"], documents["block_graph.json"]["block_graph"]
    query = "SELECT status FROM microscope_documents WHERE id = %(id)s"
    stage.check_value("document", query, id=requested.id, expected="COMPLETED")
    graph = "SELECT jsonb_array_length({}) FROM microscope_graphs WHERE document_id = %(id)s AND view = %(view)s"
    stage.check_value("chunks", graph.format("graph"), id=requested.id, view="non_block", expected=len(chunks))
    for part in ("blocks", "edges"):
        query = graph.format(f"graph->'{part}'")
        stage.check_value(f"block graph {part}", query, id=requested.id, view="block", expected=len(blocks[part]))
    headings = [line[3:] for line in (CORPUS / "sources" / MICROSCOPED).read_text().splitlines() if line[:3] == "## "]
    titles = [block["title"] for block in blocks["blocks"]]
    stage.report.check("titles", titles[-len(headings) :], expected=headings, shown=", ".join(titles))
    stage.check_notifications(
        requested,
        {
            "MICROSCOPE_DOCUMENT_COMPLETED": {"sourceId": Path(MICROSCOPED).stem, "chunksCount": len(chunks)},
            "MICROSCOPE_WORKSPACE_COMPLETED": {"groupId": workspace_id, "completedCount": 1, "failedCount": 0},
        },
    )


def play_bad_messages(stage: Stage) -> None:
    """A request without input, and messages that nobody can handle."""
    stage.report.heading("5. A request without input, and messages that nobody can handle")
    nowhere = GraphGenerationRequest(user_id=USER, s3_key=f"input/{USER}/nowhere/")
    requested = stage.requests.graph(nowhere)
    stage.show_request("GRAPH_GENERATION_REQUEST", requested)
    (task,) = stage.check_tasks(requested, GRAPH, expected="FAILED")
    error = f"There are no objects under s3://{stage.bucket}/{nowhere.s3_key}."
    stage.report.check("error", task.error, expected=error)
    stage.check_graph(status="UPDATED")
    stage.check_notifications(
        requested, {"GRAPH_GENERATION_FAILED": {"error": error}}, untold=("GRAPH_GENERATION_PROGRESS_UPDATED",)
    )
    unknown = result_of(Kind("VIDEO_INGEST_RESULT", "task_video"), user_id=USER, documents={})
    check_dead_letters(stage, "SQS_REQUEST_QUEUE_URL", {BROKEN_REQUEST: "INVALID_ENVELOPE"})
    check_dead_letters(
        stage, "SQS_RESULT_QUEUE_URL", {BROKEN_RESULT: "INVALID_ENVELOPE", unknown.body: "UNKNOWN_TASK_TYPE"}
    )


def check_dead_letters(stage: Stage, queue: str, expected: Mapping[str, str]) -> None:
    """Send messages, and check that they become dead letters.

    Parameters:
      queue: the variable that names the queue.
      expected: the reason, by the message's body.
    """
    queue_url = stage.environment[queue]
    for body in expected:
        stage.sqs.send_message(QueueUrl=queue_url, MessageBody=body)
        stage.report.note(f"{queue.split('_')[1].lower()} queue", body)
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
    for letter in sorted(letters):
        reason, error = letter.attributes.get("reason"), letter.attributes.get("error")
        shown = f"{reason} at attempt {letter.attributes.get('attempt')}: {error}"
        stage.report.check("reason", reason, expected=expected.get(letter.body), shown=shown)
    emptied = outcomes.wait_for(lambda: outcomes.is_empty(stage.sqs, queue_url) or None, timeout_s=TIMEOUT_S)
    stage.report.check("queue", emptied, expected=True, shown="empty")


def check_progress(stage: Stage, requested: Requested) -> None:
    """Check that the user was told of stages on the way, each further than the one before."""
    query = (
        "SELECT payload->>'currentStage', (payload->>'progressPercent')::float FROM notifications"
        " WHERE type = 'GRAPH_GENERATION_PROGRESS_UPDATED' AND payload->>'taskId' = %(id)s ORDER BY created_at"
    )
    told = outcomes.rows(stage.database, query, id=requested.id)
    percents = [percent for _, percent in told]
    rising = bool(told) and percents == sorted(percents)
    shown = ", ".join(f"{stage_name} {percent:.0f} %" for stage_name, percent in told)
    stage.report.check("progress", rising, expected=True, shown=shown)


def check_totals(stage: Stage, sources: Mapping[str, int], summary: Mapping[str, Any]) -> None:
    """Check that the totals of the stored summary are those of the folder, not the AI server's."""
    overview = stage.value("SELECT overview FROM graph_summaries WHERE user_id = %(user)s", user=USER) or {}
    expected = {TOTALS[ending]: count for ending, count in sources.items()}
    found = {name: overview.get(name) for name in expected}
    counted = ", ".join(f"{count} {name.removeprefix('total_')}" for name, count in found.items())
    claimed = ", ".join(str(summary["overview"][name]) for name in expected)
    stage.report.check("recounted", found, expected=expected, shown=f"{counted} (the AI server says {claimed})")


def show_clusters(stage: Stage) -> None:
    """Show what some of the clusters hold."""
    query = (
        "SELECT cluster_name, string_agg(metadata->>'title', '; ' ORDER BY id) FROM graph_nodes"
        " WHERE user_id = %(user)s GROUP BY cluster_name ORDER BY min(id) LIMIT 2"
    )
    for name, titles in outcomes.rows(stage.database, query, user=USER):
        stage.report.note("cluster", f"{name}: {titles}")


def title_of(orig_id: str) -> str:
    """An original ID as a label."""
    name = original_id(orig_id, user_id=USER)
    return name if len(name) <= LABEL_WIDTH else f"{name[: LABEL_WIDTH - 1]}…"


def count_sources(folder: Path) -> Counter[str]:
    """How many sources a folder has, by the ending of their file: a JSON file has a list of conversations."""
    return Counter(
        {
            ending: sum(len(json.loads(file.read_text())) if ending == ".json" else 1 for file in files)
            for ending in TOTALS
            if (files := list(folder.glob(f"*{ending}")))
        }
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
