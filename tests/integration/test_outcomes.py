"""Reading the outcome of a message."""

from __future__ import annotations

from graphnode.dev.outcomes import reading, rows


def test_reading_changes_no_session_setting_that_pgbouncer_would_pass_on(database_url: str) -> None:
    with reading(database_url) as database:
        changed = rows(database, "SELECT name FROM pg_settings WHERE source = 'session'")

    assert changed == []
