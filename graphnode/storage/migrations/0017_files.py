"""Expand: an index of the nodes of files that earlier versions stored by longer names than their IDs.

It has no other node. An add-node result finds a file in it, whichever way the file was named.
"""

from __future__ import annotations

from peewee import Database
from playhouse.migrate import SchemaMigrator

from graphnode.storage.online import make_index

atomic = False

#: The file's ID in `ID_name`, `type_ID` and `type_ID_name`; NULL for any other original ID.
FILE = """coalesce(
    substring(orig_id, '^(uf-[A-Za-z0-9-]+|[0-7][0-9A-Za-z]{25})_'),
    substring(orig_id, '^[A-Za-z0-9]+_(uf-[A-Za-z0-9-]+|[0-7][0-9A-Za-z]{25})(?:_|$)'))"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    """Make the index."""
    make_index(db, "graph_nodes_of_file", f"graph_nodes (({FILE}), user_id) WHERE {FILE} IS NOT NULL")
