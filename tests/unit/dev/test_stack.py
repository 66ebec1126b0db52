from __future__ import annotations

import pytest

from graphnode.dev.stack import without_password


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("postgresql://me@host/db?x=a:b@c", "postgresql://me@host/db?x=a:b@c"),
        ("postgresql://host/db", "postgresql://host/db"),
    ],
)
def test_a_database_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown
