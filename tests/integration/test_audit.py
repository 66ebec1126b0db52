"""The audit table: what operators did, by command or console, and what of it is left when a user is forgotten."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result

from graphnode import cli
from graphnode.errors import NothingStored
from graphnode.operations.actions import Actor, Recording, recorded
from graphnode.storage.audit import LOST_AFTER_S, AuditEntry, begin_entry, entries, entry, update_entry
from graphnode.storage.users import forget_user
from tests.conftest import in_role
from tests.integration.conftest import PutTasks, Query

ADA = Actor("ada@host", "console")


@pytest.fixture
def storage_role() -> str:
    """What operators run has their rights."""
    return "graphnode_operator"


def run(*arguments: str, url: str) -> Result:
    return CliRunner(env={"DATABASE_URL": in_role(url, "graphnode_operator")}).invoke(cli.commands, arguments)


def the_entry() -> AuditEntry:
    (found,) = entries(most=2)
    return found


@pytest.mark.usefixtures("storage")
class TestEntries:
    def test_an_action_is_there_before_it_ends_and_then_says_what_came_of_it(self) -> None:
        with recorded("redrive", "2 dead letters", ADA, because="S3 is back") as recording:
            running = the_entry()
            recording.add("results: 2 redriven")

        done = the_entry()
        assert (running.state, running.ended_at, running.is_lost) == ("RUNNING", None, False)
        assert (done.actor, done.via, done.action, done.subject) == ("ada@host", "console", "redrive", "2 dead letters")
        assert (done.because, done.state, done.outcome) == ("S3 is back", "DONE", "results: 2 redriven")
        assert done.ended_at is not None

    def test_an_action_that_fails_says_so_without_the_text_of_the_error_which_may_quote_a_user(self) -> None:
        def fail() -> None:
            with recorded("forget", "somebody", ADA) as recording:
                recording.add("3 rows deleted")
                raise NothingStored("secret of ada")

        with pytest.raises(NothingStored):
            fail()

        assert (the_entry().state, the_entry().outcome) == ("FAILED", "3 rows deleted NothingStored: NOTHING_STORED")

    def test_an_action_that_is_stopped_says_so(self) -> None:
        with recorded("redrive", "all", ADA) as recording:
            recording.stopped()

        assert the_entry().state == "STOPPED"

    def test_an_action_whose_process_died_is_lost_after_a_while(self, query: Query) -> None:
        begin_entry("redrive", "all", actor="ada", via="console")
        query("UPDATE audit SET news_at = now() - make_interval(secs => %s)", LOST_AFTER_S + 1)

        assert the_entry().is_lost
        update_entry(the_entry().id, "1 redriven")
        assert not the_entry().is_lost

    def test_entries_come_by_page_and_by_action_the_newest_first(self) -> None:
        ids = [begin_entry(action, "x", actor="ada", via="command") for action in ("redrive", "delete", "redrive")]

        assert [one.id for one in entries(most=2)] == [ids[2], ids[1]]
        assert [one.id for one in entries(most=2, before=ids[1])] == [ids[0]]
        assert [one.id for one in entries(most=9, action="redrive")] == [ids[2], ids[0]]
        assert entry(ids[1]) == entries(most=9)[1]
        assert entry(ids[2] + 1) is None

    def test_an_operator_cannot_change_who_did_what_when_or_delete_it(self, database_url: str) -> None:
        import psycopg2

        begin_entry("delete", "all", actor="ada", via="command")
        for statement in ("UPDATE audit SET actor = 'bob'", "UPDATE audit SET at = now()", "DELETE FROM audit"):
            connection = psycopg2.connect(in_role(database_url, "graphnode_operator"))
            with pytest.raises(psycopg2.errors.InsufficientPrivilege), connection, connection.cursor() as cursor:
                cursor.execute(statement)
            connection.close()


@pytest.mark.usefixtures("storage")
class TestForgetting:
    def test_no_entry_names_a_forgotten_user_and_those_of_others_stay(self, query: Query) -> None:
        for user in ("ada", "bob"):
            begin_entry("redrive", f"task of {user}", actor="eve", via="command", because=f"{user} asked", user_id=user)

        forget_user("ada")

        rows = query("SELECT actor, action, subject, because, user_id FROM audit ORDER BY id")
        assert rows == [
            ("eve", "redrive", "of a forgotten user", None, None),
            ("eve", "redrive", "task of bob", "bob asked", "bob"),
        ]

    def test_the_entry_of_forgetting_itself_does_not_name_the_user(self, database_url: str, query: Query) -> None:
        assert run("forget", "ada", "--yes", url=database_url).exit_code == 0

        ((text,),) = query("SELECT audit::text FROM audit")
        assert "forget" in text
        assert "DONE" in text
        assert "ada" not in text


class TestCommands:
    def test_pruning_is_recorded_with_its_rows_and_a_dry_run_is_not(
        self, database_url: str, query: Query, put_tasks: PutTasks
    ) -> None:
        put_tasks(2, "COMPLETED", "100 days")

        run("prune", "--older-than", "90d", "--dry-run", url=database_url)
        assert query("SELECT count(*) FROM audit") == [(0,)]
        run("prune", "--older-than", "90d", url=database_url)
        ((action, via, outcome),) = query("SELECT action, via, outcome FROM audit")
        assert (action, via) == ("prune", "command")
        assert "tasks: 2 rows deleted" in outcome

    def test_what_cannot_be_recorded_is_done_all_the_same_and_says_so(
        self, database_url: str, query: Query, put_tasks: PutTasks
    ) -> None:
        put_tasks(1, "COMPLETED", "100 days")
        query("REVOKE INSERT ON audit FROM graphnode_operator")
        try:
            ended = run("prune", "--older-than", "90d", url=database_url)
        finally:
            query("GRANT INSERT ON audit TO graphnode_operator")

        assert ended.exit_code == 0, ended.output
        assert "Not recorded in the audit table" in ended.output
        assert query("SELECT count(*) FROM tasks") == [(0,)]


def test_a_recording_of_nothing_writes_nothing() -> None:
    recording = Recording()

    recording.add("1 redriven")

    assert recording.outcome == "1 redriven"
