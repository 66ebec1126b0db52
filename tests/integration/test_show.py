"""`graphnode show` with a real PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias
from xml.etree import ElementTree

import peewee
import pytest
from click.testing import CliRunner, Result
from psycopg2.errors import ReadOnlySqlTransaction

from graphnode import cli
from graphnode.errors import NothingStored
from graphnode.operations.show.stored_graph import NOTIFICATIONS, Cluster, Edge, read_graph, read_overview
from graphnode.rules.features import pack
from graphnode.rules.rows import ClusterRow, EdgeRow, GraphRows, NodeRow, SubclusterRow
from graphnode.storage import graphs, notifications
from graphnode.storage.database import snapshot, user_transaction
from graphnode.storage.graphs import GraphRecord
from graphnode.text import escaped
from tests.integration.conftest import Query

#: Runs `graphnode show` with these arguments.
Show: TypeAlias = Callable[..., Result]

NOON = datetime(2026, 5, 24, 12, tzinfo=UTC)

TEA = NodeRow(
    id=0,
    orig_id="conv-tea",
    cluster_id="c1",
    cluster_name="Tee",
    cluster_confidence=0.9,
    source_type="chat",
    num_messages=12,
    keywords=[{"term": "お茶", "score": 0.8}, {"term": "pot", "score": 0.3}, {"term": "お茶", "score": 0.1}],
    timestamp=NOON,
    metadata={"title": "Which\tpot?\x1b[31m"},
)
COFFEE = TEA._replace(id=1, orig_id="conv-coffee", keywords=["pot", "beans", {"score": 1}], metadata={"title": 3})
GRAPHS = TEA._replace(
    id=2, orig_id="note-graphs", cluster_id="c2", keywords=[], metadata={"title": "?"}, timestamp=None, title="Trees\t"
)
LOOSE = TEA._replace(id=3, orig_id="note-loose", cluster_id=None, cluster_name=None, keywords=[], source_type=None)
GRAPH = GraphRows(
    nodes=[TEA, COFFEE, GRAPHS, LOOSE],
    edges=[
        EdgeRow(source=0, target=1, weight=0.75, type="hard", intra_cluster=True),
        EdgeRow(source=1, target=2, weight=None, type="insight", intra_cluster=False),
    ],
    clusters=[
        ClusterRow(id="c2", name=None, description=None, size=1, themes=["maths"]),
        ClusterRow(id="c1", name="Tee & <Kaffee>", description=None, size=2, themes=["warm"]),
    ],
    subclusters=[SubclusterRow("s1", "c1", [0, 1], 0, 2, 0.5, [])],
    generated_at=NOON,
    metadata={},
)


@pytest.fixture(autouse=True)
def stored_graph(storage: None) -> None:
    """Ada has the graph above, with embeddings of two nodes; Grace has another."""
    graphs.replace_graph("ada", GRAPH, source_timestamp=NOON)
    graphs.store_embeddings("ada", [(0, pack([1.0, 0.0])), (1, pack([0.5, 0.5]))])
    graphs.replace_graph(
        "grace", GraphRows([TEA._replace(cluster_id=None)], [], [], [], None, {}), source_timestamp=NOON
    )


def tell(event: str, user_id: str = "ada") -> None:
    with user_transaction(user_id):
        notifications.write(user_id=user_id, type="T", payload={"nodeCount": 4}, event=event, push=False)


@pytest.fixture
def show(database_url: str) -> Show:
    """Runs `graphnode show`."""

    def run(*arguments: str) -> Result:
        return CliRunner(env={"DATABASE_URL": database_url}).invoke(cli.commands, ["show", *arguments])

    return run


def test_a_graph_is_read_with_edges_and_embeddings() -> None:
    graph = read_graph("ada")

    assert (graph.user_id, graph.status) == ("ada", "CREATED")
    assert [node.orig_id for node in graph.nodes] == ["conv-tea", "conv-coffee", "note-graphs", "note-loose"]
    assert [node.cluster_id for node in graph.nodes] == ["c1", "c1", "c2", None]
    assert graph.edges == [Edge(0, 1, 0.75), Edge(1, 2, None)]
    assert graph.embeddings == {0: [1.0, 0.0], 1: [0.5, 0.5]}


def test_a_node_title_is_its_source_title_on_one_line_or_its_id() -> None:
    titles = [node.title for node in read_graph("ada").nodes]

    assert titles == [r"Which pot?\x1b[31m", "conv-coffee", "Trees", r"Which pot?\x1b[31m"]


def test_a_cluster_has_the_keywords_of_its_nodes_or_its_themes() -> None:
    clusters = read_graph("ada").clusters

    assert clusters == [
        Cluster("c1", "Tee & <Kaffee>", 2, ["pot", "お茶", "beans"]),
        Cluster("c2", "c2", 1, ["maths"]),
    ]


def test_the_overview_has_counts_and_the_newest_notifications() -> None:
    for number in range(NOTIFICATIONS + 2):
        tell(f"event {number}")
    tell("another user's", "grace")

    shown = read_overview("ada")

    assert (shown.node_count, shown.edge_count, shown.without_cluster) == (4, 2, 1)
    assert [notification.payload["nodeCount"] for notification in shown.notifications] == [4] * NOTIFICATIONS
    times = [notification.created_at for notification in shown.notifications]
    assert times == sorted(times, reverse=True)


def test_a_snapshot_sees_one_moment_and_writes_nothing(query: Query) -> None:
    with snapshot():
        assert GraphRecord.select().count() == 2
        query("DELETE FROM graphs WHERE user_id = 'grace'")
        assert GraphRecord.select().count() == 2
    with pytest.raises(peewee.InternalError) as refused, snapshot():
        GraphRecord.delete().execute()
    assert isinstance(refused.value.__context__, ReadOnlySqlTransaction)
    assert GraphRecord.select().count() == 1


def test_the_command_prints_an_overview(show: Show) -> None:
    tell("graph made")

    result = show("ada")

    assert result.exit_code == 0, result.exception
    text = " ".join(result.output.split())
    assert text.startswith("ada CREATED · updated ")
    assert "4 nodes · 2 edges · 2 clusters" in text
    assert "Tee & <Kaffee> pot, お茶, beans" in text
    assert "no cluster" in text
    assert "push SKIPPED nodeCount 4" in text
    assert max(map(len, result.output.splitlines())) <= 80


def test_the_command_draws_both_files_for_its_user_alone(show: Show, tmp_path: Path) -> None:
    (tmp_path / "a.svg").touch(0o644)

    result = show("ada", "--svg", str(tmp_path / "a.svg"), "--html", str(tmp_path / "a.html"))

    assert result.exit_code == 0, result.exception
    assert "a.svg: 4\u00a0nodes · 2\u00a0edges · 2\u00a0clusters · CREATED" in result.output
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    marks = ElementTree.parse(tmp_path / "a.svg").getroot().findall(".//*[@class='node']/*")
    assert len(marks) == 4
    assert json.dumps("Tee & \\u003cKaffee>").replace("\\\\", "\\") in (tmp_path / "a.html").read_text()


def test_an_id_that_xml_forbids_and_a_terminal_obeys_is_shown_by_its_numbers(show: Show, tmp_path: Path) -> None:
    user_id = "eve\x1b[2J\u202e\u200b\U000e0041"
    graphs.replace_graph(user_id, GRAPH, source_timestamp=NOON)

    drawn = show(user_id, "--svg", str(tmp_path / "a.svg"), "--html", str(tmp_path / "a.html"))
    told = show(user_id)

    assert (drawn.exit_code, told.exit_code) == (0, 0)
    for text in ((tmp_path / "a.html").read_text(), (tmp_path / "a.svg").read_text(), told.output):
        assert r"eve\x1b[2J\u202e" in text
        assert escaped(text, but="\n") == text
    ElementTree.parse(tmp_path / "a.svg")


def test_a_user_with_only_notifications_is_shown(show: Show) -> None:
    tell("failed", "linus")

    result = show("linus")

    assert result.exit_code == 0
    assert result.output.startswith("linus  has no graph\n")


@pytest.mark.parametrize(
    ("user", "option", "reason"),
    [
        ("nobody", None, "Nothing is stored for user 'nobody'"),
        ("nobody", "--svg", "User 'nobody' has no graph"),
        ("empty", "--html", "The graph of user 'empty' has no nodes (NOT_CREATED)"),
    ],
)
def test_a_user_without_a_graph_is_an_error(
    show: Show, tmp_path: Path, user: str, option: str | None, reason: str
) -> None:
    GraphRecord.insert(user_id="empty", status="NOT_CREATED", updated_at=NOON).execute()
    file = tmp_path / "graph"

    result = show(user, *([option, str(file)] if option else []))

    assert isinstance(result.exception, NothingStored)
    assert str(result.exception).startswith(reason)
    assert not file.exists()


def test_a_file_in_a_missing_directory_is_refused_first(show: Show, tmp_path: Path) -> None:
    result = show("ada", "--svg", str(tmp_path / "gone" / "a.svg"))

    assert result.exit_code == 2
    assert "there is no directory" in " ".join(result.output.split())
