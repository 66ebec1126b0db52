"""Microscope documents with one result or two, and the workspaces that they complete."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from graphnode.errors import WrongOwner
from graphnode.storage import microscope
from graphnode.storage.microscope import (
    DocumentGraphRecord,
    DocumentRecord,
    Recorded,
    WorkspaceRecord,
    WorkspaceTally,
)
from tests.integration.conftest import PATIENCE_S, Query, wait_until

pytestmark = pytest.mark.usefixtures("storage")


def record(document_id: str = "d1", **changes: Any) -> Recorded:
    result: dict[str, Any] = {"user_id": "ada", "workspace_id": "w1", "half": None, "status": "COMPLETED"}
    return microscope.record_result(document_id, **result | changes)


def times(table: type[DocumentRecord | WorkspaceRecord]) -> dict[str, tuple[Any, Any]]:
    return {row.id: (row.created_at, row.updated_at) for row in table.select()}


def changed(before: dict[str, tuple[Any, Any]], after: dict[str, tuple[Any, Any]]) -> set[str]:
    """The IDs of the rows that were updated; none was made at another time than before."""
    assert {key: made for key, (made, _) in before.items()} == {key: made for key, (made, _) in after.items()}
    return {key for key, (_, updated_at) in after.items() if updated_at > before[key][1]}


def stored(document_id: str = "d1") -> DocumentRecord:
    document = microscope.find_document(document_id)
    assert document
    return document


class TestRecordResult:
    def test_inserts_an_unknown_document_and_its_workspace(self) -> None:
        recorded = record(chunks_count=7, source_id="s1")

        assert recorded == Recorded(
            status_before=None, status="COMPLETED", workspace_id="w1", source_id="s1", chunks_count=7, error=None
        )
        workspace = WorkspaceRecord.get_by_id("w1")
        assert (workspace.user_id, workspace.name, workspace.completed_at) == ("ada", None, None)
        assert (stored().user_id, stored().workspace_id) == ("ada", "w1")

    def test_stores_all_that_the_result_gives(self) -> None:
        given: dict[str, Any] = {
            "source_id": "s1",
            "chunks_count": 7,
            "schema_name": "science",
            "ingest_stats": {"seconds": 1.5},
            "standardized_s3_key": "standardized.json",
            "block_graph_s3_key": "blocks.json",
            "images_s3_prefix": "images/",
        }
        record(**given)

        document = stored()
        assert {name: getattr(document, name) for name in given} == given

    def test_what_the_result_does_not_give_stays(self) -> None:
        record(half="non_block", source_id="s1", chunks_count=7, standardized_s3_key="standardized.json")
        record(half="block", block_graph_s3_key="blocks.json")

        document = stored()
        assert (document.source_id, document.chunks_count) == ("s1", 7)
        assert (document.standardized_s3_key, document.block_graph_s3_key) == ("standardized.json", "blocks.json")

    def test_keeps_what_the_api_server_registered(self) -> None:
        WorkspaceRecord.create(id="w1", user_id="ada", name="Thesis")
        DocumentRecord.create(id="d1", workspace_id="w1", user_id="ada", status="PROCESSING")

        recorded = record(workspace_id=None)

        assert (recorded.status_before, recorded.status, recorded.workspace_id) == ("PROCESSING", "COMPLETED", "w1")
        assert WorkspaceRecord.get_by_id("w1").name == "Thesis"

    def test_the_stored_workspace_counts_more_than_the_results(self) -> None:
        WorkspaceRecord.create(id="w1", user_id="ada")
        DocumentRecord.create(id="d1", workspace_id="w1", user_id="ada", status="PENDING")
        assert record(workspace_id="w2").workspace_id == "w1"

    def test_a_document_may_have_no_workspace(self) -> None:
        assert record(workspace_id=None).workspace_id is None
        assert WorkspaceRecord.select().count() == 0

    @pytest.mark.parametrize("halves", [("block", "non_block"), ("non_block", "block")])
    def test_is_completed_when_both_halves_are(self, halves: tuple[str, str]) -> None:
        first = record(half=halves[0])
        second = record(half=halves[1])

        assert (first.status_before, first.status) == (None, "PROCESSING")
        assert (second.status_before, second.status) == ("PROCESSING", "COMPLETED")
        assert (stored().block_status, stored().non_block_status) == ("COMPLETED", "COMPLETED")

    def test_is_failed_as_soon_as_a_half_is_and_keeps_its_error(self) -> None:
        failed = record(half="block", status="FAILED", error="No text found.")
        after = record(half="non_block")

        assert (failed.status, failed.error) == ("FAILED", "No text found.")
        assert (after.status_before, after.status, after.error) == ("FAILED", "FAILED", "No text found.")

    def test_a_failed_half_may_still_complete(self) -> None:
        record(half="block", status="FAILED", error="No text found.")
        record(half="non_block")
        recorded = record(half="block")

        assert (recorded.status_before, recorded.status, recorded.error) == ("FAILED", "COMPLETED", None)

    def test_one_result_of_the_whole_counts_beside_a_half(self) -> None:
        record()
        recorded = record(half="block", status="FAILED", error="No blocks.")

        assert (recorded.status, recorded.error) == ("COMPLETED", None)
        assert stored().block_status == "FAILED"

    def test_a_repeat_changes_no_status(self) -> None:
        record()
        assert record().status_before == "COMPLETED"

    def test_refuses_someone_elses_document(self) -> None:
        record(workspace_id=None)

        with pytest.raises(WrongOwner, match=r"d1.*'ada'.*'eve'"):
            record(user_id="eve", workspace_id=None, status="FAILED")

        assert stored().status == "COMPLETED"

    def test_refuses_someone_elses_workspace(self) -> None:
        WorkspaceRecord.create(id="w1", user_id="ada")

        with pytest.raises(WrongOwner, match=r"w1.*'ada'.*'eve'"):
            record(user_id="eve")

        assert microscope.find_document("d1") is None

    def test_refuses_someone_elses_workspace_also_for_a_document_that_has_its_own(self) -> None:
        WorkspaceRecord.create(id="w2", user_id="eve")
        record(status="FAILED")

        with pytest.raises(WrongOwner, match=r"w2.*'eve'.*'ada'"):
            record(workspace_id="w2")

        assert stored().status == "FAILED"

    def test_refuses_a_workspace_that_someone_else_makes_meanwhile(
        self, database_url: str, query: Query, threads: ThreadPoolExecutor
    ) -> None:
        with closing(psycopg2.connect(database_url)) as eves:
            eves.cursor().execute("INSERT INTO microscope_workspaces (id, user_id) VALUES ('w1', 'eve')")
            recording = threads.submit(record)
            wait_until(query, "SELECT 1 FROM pg_stat_activity WHERE pg_blocking_pids(pid) <> '{}'")
            eves.commit()

            with pytest.raises(WrongOwner, match=r"w1.*'eve'.*'ada'"):
                recording.result(PATIENCE_S)

        assert WorkspaceRecord.get_by_id("w1").updated_at == WorkspaceRecord.get_by_id("w1").created_at


class TestTimes:
    def test_a_document_and_its_workspace_were_made_now(self) -> None:
        record()

        document, workspace = stored(), WorkspaceRecord.get_by_id("w1")
        assert None not in (document.created_at, document.updated_at, workspace.created_at, workspace.updated_at)

    def test_each_result_changes_its_document_and_its_workspace_and_no_other(self) -> None:
        record("d1", half="block")
        record("d2", workspace_id="w2")
        documents, workspaces = times(DocumentRecord), times(WorkspaceRecord)

        record("d1", half="non_block")

        assert changed(documents, times(DocumentRecord)) == {"d1"}
        assert changed(workspaces, times(WorkspaceRecord)) == {"w1"}

    def test_a_workspace_changes_when_it_is_complete(self) -> None:
        record()
        before = times(WorkspaceRecord)

        microscope.finish_workspace_if_last("w1")

        assert changed(before, times(WorkspaceRecord)) == {"w1"}


class TestOwner:
    def test_is_the_documents_user(self) -> None:
        record()
        assert microscope.owner("d1") == "ada"

    def test_nobody_owns_an_unknown_document(self) -> None:
        assert microscope.owner("d1") is None


class TestStoreGraphs:
    def test_keeps_one_graph_a_view(self) -> None:
        record("d1")
        microscope.store_graphs(
            "d1", {"block": {"blocks": [{"title": "이론"}]}, "non_block": [{"nodes": [], "edges": []}]}
        )
        microscope.store_graphs("d1", {"block": {"blocks": []}})

        stored = {(graph.document_id, graph.view): graph.graph for graph in DocumentGraphRecord.select()}
        assert stored == {("d1", "block"): {"blocks": []}, ("d1", "non_block"): [{"nodes": [], "edges": []}]}


class TestFinishWorkspace:
    def test_finishes_with_its_last_document_however_that_ended(self) -> None:
        WorkspaceRecord.create(id="w1", user_id="ada", name="Thesis")
        DocumentRecord.create(id="d3", workspace_id="w1", user_id="ada", status="PENDING")
        record("d1")
        record("d2", status="FAILED")
        assert microscope.finish_workspace_if_last("w1") is None
        assert WorkspaceRecord.get_by_id("w1").completed_at is None

        record("d3")

        assert microscope.finish_workspace_if_last("w1") == WorkspaceTally(name="Thesis", completed=2, failed=1)
        assert WorkspaceRecord.get_by_id("w1").completed_at is not None

    def test_waits_for_a_documents_other_half(self) -> None:
        record(half="block")
        assert microscope.finish_workspace_if_last("w1") is None

    def test_counts_its_own_documents_alone(self) -> None:
        WorkspaceRecord.create(id="w2", user_id="ada")
        DocumentRecord.create(id="d2", workspace_id="w2", user_id="ada", status="PENDING")
        record()
        assert microscope.finish_workspace_if_last("w1") == WorkspaceTally(name=None, completed=1, failed=0)

    def test_a_document_that_is_added_later_finishes_it_anew(self) -> None:
        record("d1")
        microscope.finish_workspace_if_last("w1")
        DocumentRecord.create(id="d2", workspace_id="w1", user_id="ada", status="PENDING")
        assert microscope.finish_workspace_if_last("w1") is None

        record("d2")

        assert microscope.finish_workspace_if_last("w1") == WorkspaceTally(name=None, completed=2, failed=0)

    def test_an_unknown_workspace_never_finishes(self) -> None:
        assert microscope.finish_workspace_if_last("w1") is None
