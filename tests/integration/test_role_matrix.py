"""What each role of PostgreSQL can do: docs/security.md has the table that this test finds out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

import psycopg2
import pytest
from psycopg2 import errors

from tests.docs.pages import PROJECT

ROLES = ("graphnode_worker", "graphnode_api", "graphnode_operator", "graphnode_owner")

DOCUMENT = PROJECT / "docs" / "security.md"

#: Rows of each table, of two users.
ROWS = """
INSERT INTO graphs (user_id, status) VALUES ('ada', 'CREATED'), ('bob', 'CREATED');
INSERT INTO graph_nodes (user_id, id, orig_id) VALUES ('ada', 0, 'a');
INSERT INTO graph_summaries (user_id, overview, clusters, patterns, connections, recommendations)
    VALUES ('ada', '{}', '[]', '[]', '[]', '[]');
INSERT INTO tasks (task_id, task_type, user_id, status) VALUES ('t', 'T', 'ada', 'PENDING');
INSERT INTO tasks (task_id, task_type, user_id, status, finished_at) VALUES ('ended', 'T', 'ada', 'COMPLETED', now());
INSERT INTO microscope_workspaces (id, user_id) VALUES ('w', 'ada');
INSERT INTO microscope_documents (id, workspace_id, user_id, status) VALUES ('d', 'w', 'ada', 'PROCESSING');
INSERT INTO notifications (id, user_id, type, payload, event, push_status)
    VALUES ('n', 'ada', 'T', '{}', 'e', 'SKIPPED');
INSERT INTO device_tokens (token, user_id) VALUES ('phone', 'ada');
INSERT INTO forgotten_users (user_id) VALUES ('cleo');
"""


class Attempt(NamedTuple):
    """Something to try: a line of the table, and a statement that does it."""

    what: str
    statement: str


ATTEMPTS = (
    Attempt("read all users' graphs, tasks and notifications", "SELECT FROM graphs, tasks, notifications"),
    Attempt("read device tokens", "SELECT FROM device_tokens"),
    Attempt("read who deleted dead letters", "SELECT FROM deleted_letters RIGHT JOIN (VALUES (1)) AS one ON true"),
    Attempt(
        "open a task", "INSERT INTO tasks (task_id, task_type, user_id, status) VALUES ('new', 'T', 'ada', 'PENDING')"
    ),
    Attempt("complete a task", "UPDATE tasks SET status = 'COMPLETED', finished_at = now() WHERE task_id = 't'"),
    Attempt(
        "open a task that has ended",
        "UPDATE tasks SET status = 'PENDING', finished_at = NULL WHERE task_id = 'ended'",
    ),
    Attempt(
        "insert a completed task",
        "INSERT INTO tasks (task_id, task_type, user_id, status) VALUES ('new', 'T', 'ada', 'COMPLETED')",
    ),
    Attempt("delete a task", "DELETE FROM tasks"),
    Attempt("give a task to another user", "UPDATE tasks SET user_id = 'bob' WHERE task_id = 't'"),
    Attempt("give a graph to another user", "UPDATE graphs SET user_id = 'dora' WHERE user_id = 'bob'"),
    Attempt("give a summary to another user", "UPDATE graph_summaries SET user_id = 'bob'"),
    Attempt("give a workspace to another user", "UPDATE microscope_workspaces SET user_id = 'bob'"),
    Attempt("give a document to another user", "UPDATE microscope_documents SET workspace_id = NULL, user_id = 'bob'"),
    Attempt("give a notification to another user", "UPDATE notifications SET user_id = 'bob'"),
    Attempt("set a graph's status", "UPDATE graphs SET status = 'CREATING'"),
    Attempt("say when a graph was made", "UPDATE graphs SET source_timestamp = '9999-01-01'"),
    Attempt("change a graph's nodes", "UPDATE graph_nodes SET orig_id = 'b'"),
    Attempt("delete a graph", "DELETE FROM graphs"),
    Attempt(
        "open a document",
        "INSERT INTO microscope_documents (id, workspace_id, user_id, status) VALUES ('new', 'w', 'ada', 'PENDING')",
    ),
    Attempt("complete a document", "UPDATE microscope_documents SET status = 'COMPLETED'"),
    Attempt("rename a workspace", "UPDATE microscope_workspaces SET name = 'Papers'"),
    Attempt(
        "write a notification",
        "INSERT INTO notifications (id, user_id, type, payload, event, push_status)"
        " VALUES ('new', 'ada', 'T', '{}', 'new', 'PENDING')",
    ),
    Attempt("change a notification", "UPDATE notifications SET payload = '[]'"),
    Attempt("delete a notification", "DELETE FROM notifications"),
    Attempt("store a device token", "INSERT INTO device_tokens (token, user_id) VALUES ('new', 'ada')"),
    Attempt("delete a device token", "DELETE FROM device_tokens"),
    Attempt("forget a user", "INSERT INTO forgotten_users (user_id) VALUES ('ada')"),
    Attempt("let a forgotten user come back", "DELETE FROM forgotten_users"),
    Attempt("empty a table", "TRUNCATE notifications"),
    Attempt("make a table", "CREATE TABLE mine ()"),
    Attempt("make a temporary table", "CREATE TEMPORARY TABLE mine ()"),
    Attempt("make a large object", "SELECT lo_from_bytea(0, 'x')"),
    Attempt("switch a trigger off", "ALTER TABLE graphs DISABLE TRIGGER keeps_its_owner"),
    Attempt("change the list of migrations", "UPDATE schema_migration SET name = name"),
    Attempt("run a program", "COPY tasks TO PROGRAM 'true'"),
    Attempt("become the owner", "SET ROLE graphnode_owner"),
    Attempt("become an operator", "SET ROLE graphnode_operator"),
)


@pytest.fixture
def session(database_url: str) -> Iterator[psycopg2.extensions.connection]:
    """A superuser's session with rows in each table, in a transaction that is never committed."""
    with closing(psycopg2.connect(database_url)) as opened:
        with opened.cursor() as cursor:
            cursor.execute(ROWS)
        yield opened


def can(session: psycopg2.extensions.connection, role: str, statement: str) -> bool:
    """Whether a role can do this: the server does not refuse it, and it meets a row."""
    with session.cursor() as cursor:
        cursor.execute("SAVEPOINT untouched")
        try:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute(f"SET LOCAL SESSION AUTHORIZATION {role}")
            cursor.execute(statement)
        except (errors.InsufficientPrivilege, errors.RestrictViolation):
            return False
        else:
            return cursor.rowcount != 0
        finally:
            cursor.execute("ROLLBACK TO untouched")


def test_the_table_of_roles_is_what_they_can_do(session: psycopg2.extensions.connection) -> None:
    lines = [
        "| | " + " | ".join(f"`{role}`" for role in ROLES) + " |",
        "|---|" + "---|" * len(ROLES),
        *(
            f"| {what} | " + " | ".join("yes" if can(session, role, statement) else "no" for role in ROLES) + " |"
            for what, statement in ATTEMPTS
        ),
    ]
    table = "\n".join(lines)

    assert table in DOCUMENT.read_text(), f"docs/security.md must have this table:\n\n{table}\n"


def test_a_login_in_a_role_has_the_same_bounds(database_url: str, session: psycopg2.extensions.connection) -> None:
    """Policies name the role: they must bind its members."""
    with session.cursor() as cursor:
        cursor.execute("CREATE ROLE an_api_server LOGIN IN ROLE graphnode_api")

    assert can(session, "an_api_server", "UPDATE graphs SET status = 'CREATING'")
    assert not can(session, "an_api_server", "UPDATE tasks SET status = 'COMPLETED' WHERE task_id = 't'")


def test_the_script_names_other_databases_that_the_roles_may_enter(database_url: str) -> None:
    script = (PROJECT / "deploy" / "postgres-roles.sql").read_text()
    with closing(psycopg2.connect(database_url)) as administrator, administrator.cursor() as cursor:
        cursor.execute(script)

        assert any("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC" in notice for notice in administrator.notices)
