"""What is stored of a user, at a glance."""

from __future__ import annotations

import pytest

from graphnode.operations.user_overview import MOST, user_overview
from graphnode.storage.users import forget_user
from tests.integration.conftest import Query

pytestmark = pytest.mark.usefixtures("storage")


def test_of_an_unknown_user_nothing_is_stored() -> None:
    found = user_overview("nobody")

    assert found.is_empty
    assert (found.graph, found.notifications, found.devices, found.forgotten_at) == (None, [], 0, None)


def test_the_newest_rows_of_each_table_are_shown_and_those_of_others_are_not(query: Query) -> None:
    for user in ("ada", "bob"):
        query("INSERT INTO graphs (user_id, status, node_count) VALUES (%s, 'CREATED', 7)", user)
        query("INSERT INTO graph_clusters (user_id, id, name, size, themes) VALUES (%s, 'c', NULL, 7, '[]')", user)
        query("INSERT INTO microscope_workspaces (id, user_id, name) VALUES (%s, %s, 'w')", f"w-{user}", user)
        query(
            "INSERT INTO microscope_documents (id, workspace_id, user_id, status) VALUES (%s, %s, %s, 'COMPLETED')",
            f"d-{user}", f"w-{user}", user,
        )  # fmt: skip
        query("INSERT INTO device_tokens (token, user_id) VALUES (%s, %s)", f"t-{user}", user)
        query(
            "INSERT INTO notifications (id, user_id, type, payload, event, push_status)"
            " SELECT to_char(n, 'FM000') || %s, %s, 'X', '{}', n || %s, 'SENT' FROM generate_series(1, 30) AS n",
            user, user, user,
        )  # fmt: skip

    found = user_overview("ada")

    assert found.graph is not None
    assert (found.graph.status, found.graph.node_count, found.clusters) == ("CREATED", 7, [("c", 7)])
    assert [one.id for one in found.workspaces] == ["w-ada"]
    assert [one.id for one in found.documents] == ["d-ada"]
    assert found.devices == 1
    assert [one.id for one in found.notifications] == [f"{n:03}ada" for n in range(30, 30 - MOST, -1)]


def test_a_forgotten_user_is_said_to_be(query: Query) -> None:
    query("INSERT INTO graphs (user_id, status) VALUES ('ada', 'CREATED')")

    forget_user("ada")

    found = user_overview("ada")
    assert found.is_empty
    assert found.forgotten_at is not None
