"""The targets, one for each decoder. A target takes bytes, and raises only on a finding."""

from __future__ import annotations

import io
import json
import math
import re
import unicodedata
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar, get_args

import dramatiq
import msgspec
from dramatiq.brokers.stub import StubBroker

from graphnode.clients.gunzip import Gunzip
from graphnode.clients.s3 import Document
from graphnode.contract import object_keys
from graphnode.contract.bodies import summarize_body, to_message
from graphnode.contract.decoding import (
    decode_add_node_batch,
    decode_block_graph,
    decode_chunks,
    decode_graph,
    decode_summary,
)
from graphnode.contract.documents import MAX_ID_LENGTH, FeaturesFile, GraphDocument
from graphnode.contract.envelopes import (
    REQUEST_QUEUE,
    RESULT_QUEUE,
    Envelope,
    GraphGenerationProgress,
)
from graphnode.contract.repairs import Warnings
from graphnode.contract.requests import AnyRequest, halves_of, message_of, validated
from graphnode.contract.task_ids import parse_task_id
from graphnode.dev.ai import request_decoding
from graphnode.errors import (
    DocumentTooLarge,
    ForbiddenKey,
    GraphNodeError,
    InvalidDocument,
    InvalidEnvelope,
    InvalidLetterFile,
    InvalidMessage,
    InvalidRequest,
    MisplacedRequest,
    UnknownTaskType,
    WrongOwner,
)
from graphnode.operations.dead_letters.letter_files import LetterRecord, read_records
from graphnode.operations.dead_letters.letters import Letter, letter_info, summarize
from graphnode.requests.uploads import Location
from graphnode.rules.batch_merge import merge_batch
from graphnode.rules.graph import clean_graph
from graphnode.rules.microscope_views import stored_view
from graphnode.rules.rows import ClusterRow, MergeTarget, StoredNode, SubclusterRow
from graphnode.rules.summary import summary_row
from graphnode.sqs import dramatiq_messages
from tests.features import match_features, read_features, unpack
from tests.fuzz.checks import INTEGERS, Finding, refused, same, stored_json, stored_key, stored_rows, stored_text
from tests.fuzz.costs import check_cost

T = TypeVar("T")

Target = Callable[[bytes], None]

NOON = datetime(2026, 5, 24, 12, tzinfo=UTC)
USER = "ada"

#: The most bytes of an unpacked document.
UNPACKED_LIMIT = 1 << 16

#: The stored graph that add-node batches are merged into.
STORED = MergeTarget(
    nodes={"conv-1": StoredNode(0, "cluster_1"), "note-1": StoredNode(1, "cluster_1"), "uf-1": StoredNode(2, None)},
    edges={(0, 1): "hard"},
    clusters={"cluster_1": ClusterRow("cluster_1", "Baking", None, 2, [])},
    subclusters=[SubclusterRow("s1", "cluster_1", [0, 1], 0, 2, None, [])],
)


#: A queue of Dramatiq's own messages, and its broker.
OWN_QUEUE = "own"
_BROKER = StubBroker()


@dramatiq.actor(broker=_BROKER, queue_name=OWN_QUEUE)
def tell(notification_id: str) -> None:
    """Do nothing."""


def envelope(data: bytes) -> None:
    """Bodies on the result queue."""
    body = _text(data)
    same(summarize_body(body), summarize_body(body), "a summary of a body is not the same twice")
    message = _accepted(lambda: _result(body), (InvalidEnvelope, UnknownTaskType, MisplacedRequest))
    if message is not None:
        _stored_envelope(message)


def graph(data: bytes) -> None:
    """Graph documents."""
    check_cost(data, "graph")
    document = _document(data, decode_graph)
    if document is None:
        return
    rows, _ = clean_graph(document)
    stored_rows(rows.nodes, "graph_nodes")
    stored_rows(rows.edges, "graph_edges")
    stored_rows(rows.clusters, "graph_clusters")
    stored_rows(rows.subclusters, "graph_subclusters")
    stored_json(rows.metadata, "graphs.metadata")
    clusters = {cluster.id for cluster in rows.clusters}
    ids = {node.id for node in rows.nodes}
    if len(ids) < len(rows.nodes) or len({node.orig_id for node in rows.nodes}) < len(rows.nodes):
        raise Finding("two nodes with the same ID")
    if any(node.cluster_id is not None and node.cluster_id not in clusters for node in rows.nodes):
        raise Finding("a node in an unknown cluster")
    if any(edge.source not in ids or edge.target not in ids or edge.source == edge.target for edge in rows.edges):
        raise Finding("an edge to an unknown node, or a self-loop")
    _same_with_byte_order_mark(data, document)


def features(data: bytes) -> None:
    """Features documents, streamed in chunks of several sizes and decoded as a whole, always with the same result."""
    check_cost(data, "features")
    read = _accepted(partial(read_features, data, size=len(data) + 1), InvalidDocument)
    for size in (11, 300):
        same(read, _accepted(partial(read_features, data, size=size), InvalidDocument), "the size of pieces matters")
    if read is None:
        return
    names, rows = read
    if any("\0" in name for name in names if name):
        raise Finding("a conversation's name with a NUL")
    if (whole := _whole_features(data)) is not None:
        same(read, whole, "what is read in pieces is not what is in the whole document")
    node_ids = {name: index for index, name in enumerate(sorted({name for name in names if name}))}
    matched = _accepted(lambda: match_features(names, rows, node_ids), InvalidDocument)
    for _, packed in matched[0] if matched else []:
        row = unpack(packed)
        if not row or not all(math.isfinite(number) for number in row):
            raise Finding(f"an embedding that pgvector refuses: {row[:10]}")


def summary(data: bytes) -> None:
    """Summary documents."""
    check_cost(data, "summary")
    document = _document(data, decode_summary)
    if document is not None:
        row = summary_row(document, {("chat", None): 1})
        for part in row[:5]:
            stored_json(part, "graph_summaries")
        stored_text(row.detail_level, "graph_summaries.detail_level")


def add_node_batch(data: bytes) -> None:
    """Add-node batches."""
    check_cost(data, "add-node")
    document = _document(data, decode_add_node_batch)
    if document is None:
        return
    merged = _accepted(lambda: merge_batch(STORED, document, user_id=USER), WrongOwner)
    if merged is not None:
        changes, _ = merged
        stored_rows(changes.nodes, "graph_nodes")
        stored_rows(changes.edges, "graph_edges")
        stored_rows(changes.clusters, "graph_clusters")
        stored_rows(changes.subclusters, "graph_subclusters")


def chunks(data: bytes) -> None:
    """The microscope's standardized documents."""
    check_cost(data, "microscope")
    document = _document(data, decode_chunks)
    if document is not None:
        stored_json(stored_view(document, document_id="d1", warnings=Counter()), "microscope_graphs.graph")


def block_graph(data: bytes) -> None:
    """The microscope's block graphs."""
    check_cost(data, "microscope")
    document = _document(data, decode_block_graph)
    if document is not None:
        stored_json(stored_view(document, document_id="d1", warnings=Counter()), "microscope_graphs.graph")


def packed(data: bytes) -> None:
    """Documents whose Content-Encoding is gzip."""

    def unpacked() -> bytes:
        document = Document(
            Gunzip(io.BytesIO(data)),
            name="s3://bucket/key",
            expected_bytes=0,
            limit=UNPACKED_LIMIT,
            setting="LIMIT",
        )
        return b"".join(iter(lambda: document.read(1000), b""))

    found = _accepted(unpacked, (InvalidDocument, DocumentTooLarge))
    if found is not None and len(found) > UNPACKED_LIMIT:
        raise Finding(f"{len(found)} bytes unpacked")


def request(data: bytes) -> None:
    """Bodies on the request queue, as the stand-in AI server reads them."""
    body = _text(data)
    _accepted(lambda: request_decoding.read(body, sent_at=NOON), (InvalidEnvelope, UnknownTaskType))


def asking(data: bytes) -> None:
    """Requests of the API server: if they pass the checks, the AI server must be able to read them."""
    fields = _json(data)
    kinds = {kind.request_type: kind for kind in get_args(AnyRequest)}
    if not isinstance(fields, dict) or not isinstance(fields.get("taskId"), str):
        return
    kind, task_id, payload = kinds.get(str(fields.get("taskType"))), fields["taskId"], fields.get("payload")
    if kind is None:
        return
    names = {field.encode_name: field.name for field in msgspec.structs.fields(kind)}
    given = (
        {names[name]: value for name, value in payload.items() if name in names} if isinstance(payload, dict) else {}
    )
    try:
        made = kind(**given)
    except TypeError:
        # Python refuses a missing field, and a comparison of two types.
        return
    except InvalidRequest as error:
        refused(error, InvalidRequest)
        return
    halves = fields.get("in_halves") is True

    def ask() -> list[request_decoding.ReceivedRequest]:
        payload = validated(made)
        messages = halves_of(task_id, payload) if halves else [message_of(task_id, payload)]
        return [request_decoding.read(message.body, sent_at=NOON)._replace(sent_at=NOON) for message in messages]

    for found in _accepted(ask, InvalidRequest) or []:
        if found.payload.user_id != made.user_id:
            raise Finding(f"asked for {made.user_id!r}, read {found.payload.user_id!r}")
        stored_key("tasks", found.task_id, found.payload.task_type)
        stored_key("users", found.payload.user_id)


def dramatiq_message(data: bytes) -> None:
    """Bodies of Dramatiq's own messages, in base64. Data that begins with { is encoded first."""
    body = b64encode(data).decode() if data.startswith(b"{") else _text(data)
    summarize(body, OWN_QUEUE)
    message = _accepted(lambda: dramatiq_messages.read(body), InvalidMessage)
    if message is not None:
        again = dramatiq_messages.read(b64encode(msgspec.json.encode(message)).decode())
        same(again, message, "a message changes when it is written and read")
    _accepted(lambda: dramatiq_messages.decode(body, queue_name=OWN_QUEUE, actors=_BROKER.actors), InvalidMessage)


def s3_url(data: bytes) -> None:
    """S3 URLs in arguments of the command line."""
    found = _accepted(lambda: Location.of(_text(data)), InvalidRequest)
    if found and (not found.bucket or not found.key or "/" in found.bucket):
        raise Finding(f"not an object: {found}")


def object_key(data: bytes) -> None:
    """S3 keys in results. The data is a key, a user ID and the allowed prefixes, separated by NUL."""
    key, user_id, allowed, *_ = [*_text(data).split("\0"), "", ""]
    if not re.fullmatch(object_keys.PATTERN, allowed):
        allowed = ""

    def taken() -> bool:
        object_keys.check_keys([key], allowed=allowed, user_id=user_id)
        return True

    if not _accepted(taken, ForbiddenKey):
        return
    segments = key.split("/")
    controls = [each for each in key if unicodedata.category(each) == "Cc"]
    if controls or {".", ".."} & {*segments} or len(key.encode(errors="replace")) > 1024:
        raise Finding(f"not a key: {key!r}")
    below = any(
        len(segments) > len(names := prefix.split("/")[:-1])
        and all(mine == name.replace(object_keys.USER, user_id) for mine, name in zip(segments, names, strict=False))
        for prefix in object_keys.prefixes_of(allowed)
    )
    if allowed and not below:
        raise Finding(f"{key!r} of {user_id!r} is not below {allowed!r}")


def letter_file(data: bytes) -> None:
    """Files of dead letters."""
    records = _accepted(lambda: list(read_records(io.BytesIO(data))), InvalidLetterFile)
    for record in records or []:
        written = msgspec.json.encode(LetterRecord.of(record.letter(), record.queue))
        same(list(read_records(io.BytesIO(written))), [record], "a letter is not the same when it is written again")


def dead_letter(data: bytes) -> None:
    """Dead letters. The data is a JSON object of attributes, a NUL, and the body."""
    before, _, body = data.partition(b"\0")
    texts = _json(before)
    attributes = {
        name: {"StringValue": value, "DataType": "String"}
        for name, value in (texts.items() if isinstance(texts, dict) else ())
        if isinstance(value, str)
    }
    for queue in (RESULT_QUEUE, OWN_QUEUE, REQUEST_QUEUE):
        moved_by_sqs = len(attributes) % 2 == 1
        letter = Letter("m", _text(body), attributes, "r", 1, NOON, moved_by_sqs=moved_by_sqs)  # type: ignore[arg-type]
        info = letter_info(letter, queue)
        # Commands compute the age of every letter.
        _ = NOON - info.since


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        envelope,
        graph,
        features,
        summary,
        add_node_batch,
        chunks,
        block_graph,
        packed,
        request,
        asking,
        dramatiq_message,
        s3_url,
        object_key,
        letter_file,
        dead_letter,
    )
}


def _accepted(decode: Callable[[], T], refusals: type[GraphNodeError] | tuple[type[GraphNodeError], ...]) -> T | None:
    """The decoded value, or None after a correct refusal. A second call must have the same outcome."""
    outcomes: list[T | GraphNodeError] = []
    for _ in range(2):
        try:
            outcomes.append(decode())
        except GraphNodeError as error:
            refused(error, refusals)
            outcomes.append(error)
    first, second = outcomes
    same(first, second, "an outcome is not the same twice")
    return None if isinstance(first, GraphNodeError) else first


def _document(data: bytes, decode: Callable[..., T]) -> T | None:
    warnings: Warnings = {}
    document = _accepted(lambda: decode(data, warnings=warnings), InvalidDocument)
    for name, times in warnings.items():
        stored_text(name, "tasks.warnings")
        if times <= 0:
            raise Finding(f"the warning {name} has the count {times}")
    return document


def _same_with_byte_order_mark(data: bytes, document: GraphDocument) -> None:
    if not data.startswith(b"\xef\xbb\xbf"):
        same(decode_graph(b"\xef\xbb\xbf" + data), document, "a byte order mark changes the document")


def _result(body: str) -> Envelope[Any]:
    message = to_message(body, message_id="m", sent_at=NOON, receive_count=1)
    found: Envelope[Any] = message.args[0]
    return found


def _stored_envelope(found: Envelope[Any]) -> None:
    """Check that the rows of the task, its notification and its document can store an envelope's values."""
    payload = found.payload
    task = parse_task_id(found.task_id)
    stored_key("tasks", found.task_id, found.task_type)
    stored_key("microscope_documents", task.document_id)
    longest_event = "GRAPH_GENERATION_PROGRESS_UPDATED"
    stored_key("notifications.event", found.task_id, longest_event, getattr(payload, "group_id", None))
    stored_key("users", payload.user_id or task.user_id)
    if found.timestamp.tzinfo is not UTC:
        raise Finding(f"a timestamp not in UTC: {found.timestamp!r}")
    values = {name: getattr(payload, name) for name in payload.__struct_fields__}
    if isinstance(payload, GraphGenerationProgress):
        values = {"stage": payload.stage, "percent": payload.percent, "eta_s": payload.eta_s}
    stored_json(values.pop("ingest_stats", None), "ingest_stats")
    for name, value in values.items():
        match value:
            case _ if name == "ingest_stats":
                stored_json(value, name)
            case str():
                stored_text(value, name)
            case float():
                if not math.isfinite(value):
                    raise Finding(f"{name} is {value}")
            case int():
                if value not in INTEGERS:
                    raise Finding(f"{name} is {value}: not an integer of PostgreSQL")


def _whole_features(data: bytes) -> tuple[list[str | None], list[list[float | None]]] | None:
    """The names and rows of a features document decoded as a whole; None if it is invalid or repeats a field."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a field occurs twice")
        return dict(pairs)

    try:
        json.loads(data.decode(), object_pairs_hook=once)
        file = msgspec.json.decode(data, type=FeaturesFile, strict=False)
    except (ValueError, RecursionError):
        return None
    return [_name(each.orig_id) for each in file.conversations], file.embeddings


def _name(orig_id: Any) -> str | None:
    name = None if orig_id is None or isinstance(orig_id, dict | list) else str(orig_id).replace("\0", "")
    return name if name is None or len(name) <= MAX_ID_LENGTH else None


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _text(data: bytes) -> str:
    """The data as text, with surrogates for bytes that are not UTF-8."""
    return data.decode(errors="surrogateescape")
