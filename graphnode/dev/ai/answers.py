"""What answers each request: its documents and its payload, before any odd side."""

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
from graphnode.dev.ai.asked import Asked
from graphnode.dev.ai.bucket import Bucket
from graphnode.dev.ai.graph import Tell, make_graph
from graphnode.dev.ai.microscope import block_graph_of, chunks_of, parts_of
from graphnode.dev.ai.odd import (
    Oddities,
    encoded,
    odd_batch,
    odd_block_graph,
    odd_chunks,
    odd_features,
    odd_graph,
    odd_summary,
)
from graphnode.dev.ai.placing import Placed, place
from graphnode.dev.ai.reading import Source, UnreadableInput, read_inputs
from graphnode.dev.ai.summary import summarize
from graphnode.errors import InvalidDocument
from graphnode.rules.graph import clean_graph

#: Inputs that could not be read, of which it is said why.
MOST_FAULTS = 5

#: Kinds of source that a microscope's request calls a note; the others are conversations.
NOTES = frozenset({"markdown", "notion", "file"})


class Answer(NamedTuple):
    """A task's result.

    Parameters:
      payload: its fields, as the contract spells them; None is not given.
      documents: the file of each document and its bytes, by the payload's field for its key. The first one is the one
        that the result is for.
    """

    payload: dict[str, Any]
    documents: dict[str, tuple[str, bytes]]


class Known:
    """What a user's graph holds, as far as the stand-in made it. It is its own note of that: it reads no database.

    Parameters:
      bucket: the payload bucket.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def load(self, user_id: str) -> list[Placed]:
        """A user's sources and their places; none before a first graph."""
        found = self._bucket.find(self._key(user_id))
        return msgspec.json.decode(found, type=list[Placed]) if found else []

    def save(self, user_id: str, placed: list[Placed]) -> None:
        """Replace a user's sources and their places."""
        self._bucket.write(self._key(user_id), msgspec.json.encode(placed))

    @staticmethod
    def _key(user_id: str) -> str:
        return f"ai/known/{user_id}.json"


def answer(asked: Asked, bucket: Bucket, odd: Oddities, tell: Tell) -> Answer:
    """Answer a request; a user's requests one after the other, for each builds on what those before have left.

    Parameters:
      tell: is told of each stage.

    Raises UnreadableInput or InvalidDocument for one that cannot be answered: the text is for the user's app.
    """
    match asked.payload:
        case GraphGenerationRequest() as request:
            return _graph(asked, request, bucket, odd, tell)
        case GraphSummaryRequest() as request:
            return _summary(asked, request, bucket, odd)
        case AddNodeRequest() as request:
            return _new_nodes(asked, request, bucket, odd)
        case MicroscopeIngestRequest() as request:
            sources, _ = read_inputs(bucket.inputs([request.s3_key], bucket=request.bucket))
            return _microscope(asked, request, sources, odd)
        case MicroscopeIngestFromNodeRequest() as request:
            return _microscope(asked, request, [_node(request, Known(bucket))], odd)


def _graph(asked: Asked, request: GraphGenerationRequest, bucket: Bucket, odd: Oddities, tell: Tell) -> Answer:
    tell("Reading sources", 5)
    keys = [request.s3_key, *(request.extra_s3_keys or [])]
    sources, faults = read_inputs(bucket.inputs(keys, bucket=request.bucket), input_type=request.input_type)
    graph = make_graph(
        sources,
        generated_at=asked.sent_at,
        min_clusters=request.min_clusters,
        max_clusters=request.max_clusters,
        language=request.language,
        tell=tell,
    )
    Known(bucket).save(
        request.user_id,
        [
            Placed(
                orig_id=source.name,
                kind=source.kind,
                title=source.title,
                sections=source.sections,
                cluster_id=node["cluster_id"],
                cluster_name=node["cluster_name"],
                task_id=asked.task_id,
                id=node["id"],
            )
            for source, node in zip(sources, graph.document["nodes"], strict=True)
        ],
    )
    written = encoded(odd_graph(graph.document, odd), odd)
    documents = {"resultS3Key": ("graph.json", written)}
    documents["featuresS3Key"] = ("features.json", encoded(odd_features(graph.features, odd), odd))
    if request.include_summary:
        tell("Writing the summary", 90)
        summary = _summary_document(asked, written, request.summary_language or request.language)
        documents["summaryS3Key"] = ("summary.json", encoded(odd_summary(summary, odd), odd))
    payload = {"summaryIncluded": bool(request.include_summary), "error": _error(faults)}
    return Answer(payload, documents)


def _summary(asked: Asked, request: GraphSummaryRequest, bucket: Bucket, odd: Oddities) -> Answer:
    summary = _summary_document(asked, bucket.read(request.graph_s3_key, bucket=request.bucket), request.language)
    return Answer({"error": None}, {"summaryS3Key": ("summary.json", encoded(odd_summary(summary, odd), odd))})


def _summary_document(asked: Asked, graph: bytes, language: str | None) -> dict[str, Any]:
    rows, _ = clean_graph(decode_graph(graph))
    return summarize(rows, generated_at=asked.sent_at, language=language)


def _new_nodes(asked: Asked, request: AddNodeRequest, bucket: Bucket, odd: Oddities) -> Answer:
    inputs = bucket.inputs([request.s3_key], bucket=request.bucket)
    sources, faults = read_inputs(inputs, input_type=request.input_type)
    known = Known(bucket)
    placing = place(known.load(request.user_id), sources, user_id=request.user_id, task_id=asked.task_id)
    known.save(request.user_id, placing.known)
    ids = {placed.orig_id: placed.id for placed in placing.known if placed.id is not None}
    batch = odd_batch(placing.batch, odd, user_id=request.user_id, ids=ids)
    return Answer({"error": _error(faults)}, {"resultS3Key": ("add_node.json", encoded(batch, odd))})


def _node(request: MicroscopeIngestFromNodeRequest, known: Known) -> Source:
    """The source of a node, as it was when the graph was made."""
    for placed in known.load(request.user_id):
        if placed.orig_id == original_id(request.node_id) and (placed.kind in NOTES) == (request.node_type == "note"):
            return Source(placed.orig_id, placed.kind, placed.title, placed.sections, None, None, "")
    raise UnreadableInput(f"There is no {request.node_type} {request.node_id} in the graph of {request.user_id}.")


def _microscope(asked: Asked, request: MicroscopeRequest, sources: list[Source], odd: Oddities) -> Answer:
    source = sources[0]
    if len(sources) > 1:
        # A file of several conversations is one document under the microscope.
        source = source._replace(sections=[section for one in sources for section in one.sections])
    parts = parts_of(source)
    chunks = chunks_of(parts)
    half = parse_task_id(asked.task_id).half
    documents = {}
    if half == "non_block" or (half is None and not request.block_mode):
        documents["standardized_s3_key"] = ("standardized.json", encoded(odd_chunks(chunks, odd), odd))
    if half == "block" or (half is None and request.block_mode is not False):
        graph = odd_block_graph(block_graph_of(source, parts), odd)
        documents["block_graph_s3_key"] = ("block_graph.json", encoded(graph, odd))
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


def _error(faults: list[str]) -> str | None:
    """What is said beside a success of inputs that could not be read."""
    more = [f"And {len(faults) - MOST_FAULTS} more."] if len(faults) > MOST_FAULTS else []
    return " ".join(faults[:MOST_FAULTS] + more) or None


#: What cannot be answered: the request's fault, and told to its user.
UNANSWERABLE = (UnreadableInput, InvalidDocument)
