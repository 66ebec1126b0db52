"""The page with the picture of a stored graph, drawn in a process of its own."""

from __future__ import annotations

from graphnode.storage.database import close_database, open_database


def drawn_page(database_url: str, user_id: str) -> str:
    """The page of a user's graph as HTML. Raises NothingStored."""
    from graphnode.operations.show.page import page
    from graphnode.operations.show.picture import compose
    from graphnode.operations.show.stored_graph import read_graph

    open_database(database_url)
    try:
        return page(compose(read_graph(user_id)))
    finally:
        close_database()
