"""Walks a result's way to the database, to find out whether it works for everybody."""

from __future__ import annotations

import time
from collections.abc import Callable

from graphnode.storage.database import database, transaction
from graphnode.storage.schema import check_rights, check_schema

#: Needs what a result's statements and its commit need beside a row: room on the disk, by a sort that does not fit into
#: memory (1 MiB), and room in the queue of NOTIFY. A nearly full disk still takes a row.
DEMANDS = """
SET LOCAL work_mem = '64kB';
SELECT pg_notify('graphnode_rehearsal', ''), count(*)
FROM (SELECT number FROM generate_series(1, 20000) AS number ORDER BY md5(number::text)) AS sorted
"""


def rehearse(write_row: Callable[[], None]) -> None:
    """Check the schema and the rights, and commit a row, over a new connection. Threads replace older connections.

    Parameters:
      write_row: writes a row of this process.

    Raises:
      SchemaError: The schema or the rights are not those that a worker needs.
      psycopg2.Error, peewee.PeeweeException, DatabaseFault: The database fails.
    """
    database.made_since = time.monotonic()
    try:
        check_schema()
        check_rights()
        with transaction():
            write_row()
            database.execute_sql(DEMANDS)
    finally:
        database.abandon()
