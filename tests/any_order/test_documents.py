"""A microscope document's keys and views: each in its own column, whichever field carried it, in either order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest

from graphnode.storage.database import database
from tests.any_order.delivery import Bench, deliver
from tests.chaos.model.state import Message

DOCUMENT = "task_microscope_file_ada_01J9ZZZZZZZZZZZZZZZZZZZZZA"
CHUNKS = [{"nodes": [{"name": "TCP"}], "edges": []}]
BLOCKS = {"block_graph": {"blocks": [{"block_id": "b1", "micro_graph": {"nodes": [{"name": "IP"}]}}]}}
FIELDS = ("standardized_s3_key", "block_graph_s3_key")

pytestmark = pytest.mark.usefixtures("in_this_process")


class Stored(NamedTuple):
    """The row of the document."""

    status: str
    standardized_s3_key: str | None
    block_graph_s3_key: str | None


@pytest.fixture
def bench(in_this_process: Bench) -> Bench:
    in_this_process.documents |= {"chunks": CHUNKS, "one-chunk": CHUNKS[0], "blocks": BLOCKS, "more-blocks": BLOCKS}
    return in_this_process


def deliver_result(suffix: str = "", /, **payload: Any) -> None:
    payload = {"userId": "ada", "status": "COMPLETED", **payload}
    body = {"taskType": "MICROSCOPE_INGEST_RESULT", "taskId": DOCUMENT + suffix, "payload": payload}
    deliver(Message(body, datetime(2026, 5, 24, 8, tzinfo=UTC), {}), attempt=1)


def stored_document() -> Stored:
    (row,) = database.execute_sql("SELECT status, standardized_s3_key, block_graph_s3_key FROM microscope_documents")
    return Stored(*row)


def stored_views() -> dict[str, Any]:
    return dict(database.execute_sql("SELECT view, graph FROM microscope_graphs"))


def warnings() -> Any:
    ((found,),) = database.execute_sql("SELECT warnings FROM tasks")
    return found


@pytest.mark.usefixtures("bench")
@pytest.mark.parametrize("order", [("_block", "_nonblock"), ("_nonblock", "_block")], ids="-".join)
@pytest.mark.parametrize("block_field", FIELDS)
@pytest.mark.parametrize("non_block_field", FIELDS)
def test_each_half_writes_its_own_column_whichever_field_carries_its_key(
    order: tuple[str, str], block_field: str, non_block_field: str
) -> None:
    keys = {"_block": {block_field: "blocks"}, "_nonblock": {non_block_field: "chunks"}}

    for suffix in order:
        deliver_result(suffix, **keys[suffix])

    assert stored_document() == Stored("COMPLETED", "chunks", "blocks")
    assert stored_views().keys() == {"block", "non_block"}


@pytest.mark.usefixtures("bench")
@pytest.mark.parametrize(("suffix", "stored"), [("_block", (None, "blocks")), ("_nonblock", ("chunks", None))])
def test_a_half_with_both_keys_has_the_one_in_its_own_field_and_leaves_the_others_column(
    suffix: str, stored: tuple[str | None, str | None]
) -> None:
    deliver_result(suffix, standardized_s3_key="chunks", block_graph_s3_key="blocks")

    assert stored_document() == Stored("PROCESSING", *stored)


@pytest.mark.usefixtures("bench")
@pytest.mark.parametrize(
    ("keys", "stored"),
    [
        (("chunks", "blocks"), ("chunks", "blocks")),
        (("blocks", "chunks"), ("chunks", "blocks")),
        (("blocks", None), (None, "blocks")),
        ((None, "blocks"), (None, "blocks")),
        (("chunks", ""), ("chunks", None)),
        (("", "one-chunk"), ("one-chunk", None)),
        (("blocks", "blocks"), (None, "blocks")),
    ],
)
def test_the_views_of_a_document_sent_whole_are_told_by_their_contents(
    keys: tuple[str | None, str | None], stored: tuple[str | None, str | None]
) -> None:
    deliver_result(**dict(zip(FIELDS, keys, strict=True)))

    assert stored_document() == Stored("COMPLETED", *stored)
    views = ("non_block", "block")
    assert stored_views().keys() == {view for view, key in zip(views, stored, strict=True) if key}
    assert warnings() in (None, {})


@pytest.mark.usefixtures("bench")
@pytest.mark.parametrize(
    ("keys", "stored"),
    [(("blocks", "more-blocks"), (None, "more-blocks")), (("chunks", "one-chunk"), ("chunks", None))],
)
def test_of_two_views_of_one_kind_the_one_in_its_own_field_counts_and_the_task_says_so(
    keys: tuple[str, str], stored: tuple[str | None, str | None]
) -> None:
    deliver_result(**dict(zip(FIELDS, keys, strict=True)))

    assert stored_document() == Stored("COMPLETED", *stored)
    assert warnings() == {"views of the same kind": 1}


@pytest.mark.usefixtures("bench")
@pytest.mark.parametrize("field", ["images_s3_prefix", "images_s3_key", "imagesS3Prefix", "imagesS3Key"])
def test_the_prefix_of_the_images_has_two_names(field: str) -> None:
    deliver_result(**{field: "images/1/"})

    assert list(database.execute_sql("SELECT images_s3_prefix FROM microscope_documents")) == [("images/1/",)]
    assert list(database.execute_sql("SELECT s3_keys FROM tasks")) == [(["images/1/"],)]


@pytest.mark.usefixtures("bench")
def test_a_view_that_is_stored_again_has_the_same_ids() -> None:
    deliver_result("_block", block_graph_s3_key="blocks")
    first = stored_views()["block"]

    deliver_result(block_graph_s3_key="more-blocks")

    assert first["blocks"][0]["micro_graph"]["nodes"][0]["id"]
    assert stored_views()["block"] == first
