"""The answer to each type of request: the result's payload and documents."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from graphnode.contract.decoding import decode_graph
from graphnode.contract.original_ids import original_id
from graphnode.contract.requests import (
    AddNodeRequest,
    GraphGenerationRequest,
    GraphSummaryRequest,
    MicroscopeIngestFromNodeRequest,
    MicroscopeIngestRequest,
    MicroscopeRequest,
)
from graphnode.contract.task_ids import parse_task_id
from graphnode.dev.ai.fault_injection import (
    TaskFaults,
    encoded,
    faulty_batch,
    faulty_block_graph,
    faulty_chunks,
    faulty_features,
    faulty_graph,
    faulty_summary,
)
from graphnode.dev.ai.graph_generation import Tell, make_graph
from graphnode.dev.ai.graph_summary import summarize
from graphnode.dev.ai.microscope_ingest import block_graph_of, chunks_of, parts_of
from graphnode.dev.ai.payload_bucket import PayloadBucket
from graphnode.dev.ai.placement import PlacedSource, place
from graphnode.dev.ai.request_decoding import ReceivedRequest
from graphnode.dev.ai.text_sources import TextSource, UnreadableInput, read_inputs
from graphnode.errors import InvalidDocument
from graphnode.rules.graph import clean_graph

#: Most unreadable inputs that a result's `error` explains.
MOST_PROBLEMS = 5

#: Kinds of source that a microscope request calls a note. The others are conversations.
NOTES = frozenset({"markdown", "notion", "file"})


class Answer(NamedTuple):
    """A task's result.

    Parameters:
      payload: its fields, in the contract's spelling; None: the field is missing.
      documents: file name and content of each document, by the payload's field for its S3 key. The first is the main
        document.
    """

    payload: dict[str, Any]
    documents: dict[str, tuple[str, bytes]]


class KnownSources:
    """The sources in each user's graph. The stand-in keeps them in S3, because it uses no database."""

    def __init__(self, bucket: PayloadBucket) -> None:
        self._bucket = bucket

    def load(self, user_id: str) -> list[PlacedSource]:
        """A user's sources with their clusters; empty before the first graph."""
        found = self._bucket.find(self._key(user_id))
        return msgspec.json.decode(found, type=list[PlacedSource]) if found else []

    def save(self, user_id: str, placed: list[PlacedSource]) -> None:
        """Replace a user's sources."""
        self._bucket.write(self._key(user_id), msgspec.json.encode(placed))

    @staticmethod
    def _key(user_id: str) -> str:
        return f"ai/known/{user_id}.json"


def answer(received: ReceivedRequest, bucket: PayloadBucket, faults: TaskFaults, tell: Tell) -> Answer:
    """Answer a request. A user's requests must be answered one at a time: each builds on the ones before.

    Parameters:
      tell: called with each stage and its progress in percent.

    Raises UnreadableInput or InvalidDocument for an invalid request, with a text for the user's app.
    """
    match received.payload:
        case GraphGenerationRequest() as request:
            return _graph(received, request, bucket, faults, tell)
        case GraphSummaryRequest() as request:
            return _summary(received, request, bucket, faults)
        case AddNodeRequest() as request:
            return _new_nodes(received, request, bucket, faults)
        case MicroscopeIngestRequest() as request:
            sources, _ = read_inputs(bucket.inputs([request.s3_key], bucket=request.bucket))
            return _microscope(received, request, sources, faults)
        case MicroscopeIngestFromNodeRequest() as request:
            return _microscope(received, request, [_node(request, KnownSources(bucket))], faults)


def _graph(
    received: ReceivedRequest, request: GraphGenerationRequest, bucket: PayloadBucket, faults: TaskFaults, tell: Tell
) -> Answer:
    tell("Reading sources", 5)
    keys = [request.s3_key, *(request.extra_s3_keys or [])]
    sources, problems = read_inputs(bucket.inputs(keys, bucket=request.bucket), input_type=request.input_type)
    graph = make_graph(
        sources,
        generated_at=received.sent_at,
        min_clusters=request.min_clusters,
        max_clusters=request.max_clusters,
        language=request.language,
        tell=tell,
    )
    KnownSources(bucket).save(
        request.user_id,
        [
            PlacedSource.of(
                source,
                cluster_id=node["cluster_id"],
                cluster_name=node["cluster_name"],
                task_id=received.task_id,
                node_id=node["id"],
            )
            for source, node in zip(sources, graph.document["nodes"], strict=True)
        ],
    )
    written = encoded(faulty_graph(graph.document, faults), faults)
    documents = {"resultS3Key": ("graph.json", written)}
    documents["featuresS3Key"] = ("features.json", encoded(faulty_features(graph.features, faults), faults))
    if request.include_summary:
        tell("Writing the summary", 90)
        summary = _summary_document(received, written, request.summary_language or request.language)
        documents["summaryS3Key"] = ("summary.json", encoded(faulty_summary(summary, faults), faults))
    payload = {"summaryIncluded": bool(request.include_summary), "error": _error(problems)}
    return Answer(payload, documents)


def _summary(
    received: ReceivedRequest, request: GraphSummaryRequest, bucket: PayloadBucket, faults: TaskFaults
) -> Answer:
    graph = bucket.read(request.graph_s3_key, bucket=request.bucket)
    summary = _summary_document(received, graph, request.language)
    return Answer({"error": None}, {"summaryS3Key": ("summary.json", encoded(faulty_summary(summary, faults), faults))})


def _summary_document(received: ReceivedRequest, graph: bytes, language: str | None) -> dict[str, Any]:
    rows, _ = clean_graph(decode_graph(graph))
    return summarize(rows, generated_at=received.sent_at, language=language)


def _new_nodes(received: ReceivedRequest, request: AddNodeRequest, bucket: PayloadBucket, faults: TaskFaults) -> Answer:
    inputs = bucket.inputs([request.s3_key], bucket=request.bucket)
    sources, problems = read_inputs(inputs, input_type=request.input_type)
    known = KnownSources(bucket)
    placing = place(known.load(request.user_id), sources, user_id=request.user_id, task_id=received.task_id)
    known.save(request.user_id, placing.known)
    ids = {placed.orig_id: placed.id for placed in placing.known if placed.id is not None}
    batch = faulty_batch(placing.batch, faults, user_id=request.user_id, ids=ids)
    return Answer({"error": _error(problems)}, {"resultS3Key": ("add_node.json", encoded(batch, faults))})


def _node(request: MicroscopeIngestFromNodeRequest, known: KnownSources) -> TextSource:
    """The source of a node, as it was when it became part of the graph."""
    for placed in known.load(request.user_id):
        if placed.orig_id == original_id(request.node_id) and (placed.kind in NOTES) == (request.node_type == "note"):
            return TextSource(placed.orig_id, placed.kind, placed.title, placed.sections, None, None, "")
    raise UnreadableInput(f"There is no {request.node_type} {request.node_id} in the graph of {request.user_id}.")


def _microscope(
    received: ReceivedRequest, request: MicroscopeRequest, sources: list[TextSource], faults: TaskFaults
) -> Answer:
    source = sources[0]
    if len(sources) > 1:
        # Several conversations in one file are one microscope document.
        source = source._replace(sections=[section for one in sources for section in one.sections])
    parts = parts_of(source)
    chunks = chunks_of(parts)
    half = parse_task_id(received.task_id).half
    documents = {}
    if half == "non_block" or (half is None and not request.block_mode):
        documents["standardized_s3_key"] = ("standardized.json", encoded(faulty_chunks(chunks, faults), faults))
    if half == "block" or (half is None and request.block_mode is not False):
        blocks = block_graph_of(source, parts, micro_graphs=bool(request.generate_micro_graphs))
        graph = faulty_block_graph(blocks, faults)
        documents["block_graph_s3_key"] = ("block_graph.json", encoded(graph, faults))
    stats = {"characters": len(source.text), "sections": len(source.sections), "chunks": len(chunks)}
    payload = {
        "groupId": request.group_id,
        "sourceId": source.name,
        "chunks_count": len(chunks),
        "schema_name": request.schema_name or "general",
        "ingest_stats": stats,
        "standardized_s3_key": None,
        "block_graph_s3_key": None,
        "images_s3_prefix": None,
        "error": None,
    }
    return Answer(payload, documents)


def _error(problems: list[str]) -> str | None:
    """The `error` of a COMPLETED result whose request had unreadable inputs."""
    more = [f"And {len(problems) - MOST_PROBLEMS} more."] if len(problems) > MOST_PROBLEMS else []
    return " ".join(problems[:MOST_PROBLEMS] + more) or None


#: Errors in the request. The user gets their text.
UNANSWERABLE = (UnreadableInput, InvalidDocument)
