"""Looking at what has become of a message."""

from __future__ import annotations

from graphnode.dev.outcomes import reading, rows


def test_a_look_leaves_nothing_in_the_session_that_another_client_may_get_from_pgbouncer(database_url: str) -> None:
    with reading(database_url) as database:
        changed = rows(database, "SELECT name FROM pg_settings WHERE source = 'session'")

    assert changed == []
