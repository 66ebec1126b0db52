"""The database: reachable, new enough, migrated, with pgvector, the worker's rights and enough connections?"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec
from psycopg2.extensions import parse_dsn

from graphnode.errors import SchemaError
from graphnode.operations.doctor.findings import Finding, broken, command, fine, unchecked, warning
from graphnode.remedies import connection_failure
from graphnode.storage import schema
from graphnode.storage.connections import CONNECTION
from graphnode.storage.database import database
from graphnode.storage.workers import SEEN_LATELY

#: The oldest PostgreSQL that pgvector supports. https://github.com/pgvector/pgvector#installation
OLDEST_VERSION = 13

#: Dramatiq's default of threads in a process. Its default of processes is the number of cores.
DRAMATIQ_THREADS = 8

#: Connections of a worker process beside one for each worker thread: the sweeps', a probe's, and those of the threads
#: that send the two queues' dead letters.
OTHER_CONNECTIONS = 4

#: Seconds in which a server accepts a connection, if it does.
ACCEPT_S = 3.0

SUBJECT = "database"

#: What else is checked with the database.
FURTHER_SUBJECTS = ("schema", "table rights", "connections")

#: Reads what most findings depend on. What the user may not see is left out.
FACTS = """
SELECT current_setting('server_version_num')::int,
       current_setting('transaction_read_only')::boolean,
       current_user,
       current_database(),
       current_setting('max_connections')::int
           - current_setting('superuser_reserved_connections')::int
           - coalesce(current_setting('reserved_connections', true)::int, 0),
       (SELECT sum(numbackends) FROM pg_stat_database)
           - (SELECT count(*) FROM pg_stat_activity WHERE application_name = %(ours)s),
       (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user),
       (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database()),
       EXISTS (SELECT FROM pg_extension WHERE extname = %(extension)s),
       EXISTS (SELECT FROM pg_available_extensions WHERE name = %(extension)s)
"""

#: Up to this number of tables, missing rights are granted one by one.
FEW_TABLES = 3

#: The threads of each process that was seen lately.
RUNNING = f"SELECT threads FROM workers WHERE {SEEN_LATELY}"  # noqa: S608


class Fleet(NamedTuple):
    """The worker processes that share the database.

    Parameters:
      connections: the most that all of them together may hold.
      source: where that number comes from.
    """

    connections: int
    source: str


class DatabaseInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What PostgreSQL says about itself.

    Parameters:
      version: server_version_num, such as 170004.
      usable_connections: max_connections without the reserved ones.
      others_connections: held now by other programs than this project's.
      user_limit, database_limit: of connections; None without a limit.
      schema_fault: what is wrong with the migrations; empty if nothing is.
      newer: migrations that this version does not know but can work with.
      lacking: the rights that the user lacks, by table.
      running_threads: the threads of each worker process that was seen lately.
    """

    version: int
    is_read_only: bool
    user: str
    name: str
    usable_connections: int
    others_connections: int
    user_limit: int | None
    database_limit: int | None
    has_extension: bool
    extension_is_available: bool
    schema_fault: str = ""
    newer: Sequence[str] = ()
    lacking: Mapping[str, Sequence[str]] = {}
    running_threads: Sequence[int] = ()


def check_database(url: str, *, processes: int | None, threads: int | None) -> list[Finding]:
    """Findings on the open database.

    Parameters:
      url: the database's, for the commands that mend.
      processes, threads: of the worker, on all machines; None: from the table `workers`, or else Dramatiq's defaults.
    """
    try:
        info = ask_database()
    except Exception as error:
        text = str(error)
        if found := judge_connection(text, url, is_accepted="timeout expired" in text and accepts_connections(url)):
            return [found]
        raise
    return judge_database(info, fleet_of(info, processes=processes, threads=threads, cores=os.cpu_count() or 1))


def ask_database() -> DatabaseInfo:
    """What the open database says about itself."""
    row = database.execute_sql(
        FACTS, {"ours": CONNECTION["application_name"], "extension": schema.EXTENSION}
    ).fetchone()
    known = DatabaseInfo(**dict(zip(DatabaseInfo.__struct_fields__, row, strict=False)))
    try:
        newer = schema.check_schema()
    except SchemaError as error:
        return msgspec.structs.replace(known, schema_fault=str(error))
    lacking = schema.lacking_rights()
    running: list[int] = []
    if "SELECT" not in lacking.get("workers", ()):
        running = [threads for (threads,) in database.execute_sql(RUNNING).fetchall()]
    return msgspec.structs.replace(known, newer=newer, lacking=lacking, running_threads=running)


def ask_skew() -> timedelta:
    """How far this machine's clock is ahead of the open database's."""
    before = datetime.now(UTC)
    (there,) = database.execute_sql("SELECT clock_timestamp()").fetchone()
    skew: timedelta = before + (datetime.now(UTC) - before) / 2 - there
    return skew


def fleet_of(info: DatabaseInfo, *, processes: int | None, threads: int | None, cores: int) -> Fleet:
    """The connections that worker processes may hold: as given, as they run now, or by Dramatiq's defaults."""
    if processes is None and threads is None and info.running_threads:
        held = sum(count + OTHER_CONNECTIONS for count in info.running_threads)
        number = len(info.running_threads)
        return Fleet(held, "1 running process" if number == 1 else f"{number} running processes")
    number, each = processes or cores, threads or DRAMATIQ_THREADS
    source = f"{number} processes with {each} threads"
    if processes is None or threads is None:
        source += ", partly Dramatiq's defaults" if processes or threads else ", Dramatiq's defaults"
    return Fleet(number * (each + OTHER_CONNECTIONS), source)


def accepts_connections(url: str) -> bool:
    """Whether anything listens at a database's host and port. libpq's time-out does not tell."""
    where = parse_dsn(url)
    try:
        with socket.create_connection((where.get("host", "localhost"), where.get("port", 5432)), timeout=ACCEPT_S):
            return True
    except OSError:
        return False


def judge_connection(text: str, url: str, *, is_accepted: bool = False) -> Finding | None:
    """Why no connection could be made, by the error text of libpq or the server; None for another error.

    Parameters:
      is_accepted: whether something listens there, after a time-out.

    https://www.postgresql.org/docs/current/libpq-connect.html
    """
    where = parse_dsn(url)
    host, port, name, user = where.get("host", "localhost"), where.get("port", 5432), where["dbname"], where.get("user")
    server = ("-h", host, "-p", str(port))
    ping = command("pg_isready", *server)
    full = (
        "all of PostgreSQL's connections are taken",
        "The workers and the other programs together need more than max_connections.",
        "ALTER SYSTEM SET max_connections = 200;   -- and restart",
    )
    limited = "Its CONNECTION LIMIT is lower than what the workers need."
    missing = (f"database {name}", command("createdb", *server, name))
    if "database" not in text:
        missing = (f"user {user}", command("createuser", *server, str(user)))
    # Another reason than those below. Its own text may quote anything.
    other = f"{connection_failure(text)}."
    signs = {
        "password authentication failed": (
            f"PostgreSQL does not accept the password of {user}",
            "DATABASE_URL has an old or mistyped password; what is not a letter or digit must be percent-encoded.",
            command("psql", *server, "-U", str(user), "-d", name),
        ),
        "does not exist": (
            f"there is no {missing[0]} on {host}",
            "DATABASE_URL has a wrong name, or it was never created.",
            missing[1],
        ),
        "could not translate host name": (
            f"the name {host} is unknown to DNS",
            "A wrong name in DATABASE_URL, or a private name outside of its network.",
            command("getent", "hosts", host),
        ),
        "no pg_hba.conf entry": (
            f"PostgreSQL takes no connection of {user} from this machine",
            "pg_hba.conf has no line for it, or one for encrypted connections only.",
            f'echo "hostssl {name} {user} samenet scram-sha-256" >> pg_hba.conf',
        ),
        "too many connections for role": (
            f"all connections that the role {user} may have are taken",
            limited,
            f'ALTER ROLE "{user}" CONNECTION LIMIT -1;   -- no limit of its own',
        ),
        "too many connections for database": (
            f"all connections that the database {name} may have are taken",
            limited,
            f'ALTER DATABASE "{name}" CONNECTION LIMIT -1;   -- no limit of its own',
        ),
        "remaining connection slots": full,
        "too many": full,
        "onnection refused": (
            f"nobody listens at {host}:{port}",
            "PostgreSQL does not run, or listens elsewhere.",
            ping,
        ),
        "timeout expired": (
            f"{host}:{port} accepts the connection, and does not answer",
            "PostgreSQL hangs or is overloaded, or another program listens there.",
            ping,
        )
        if is_accepted
        else (
            f"{host}:{port} does not answer",
            "A security group or a firewall drops the packets, most likely.",
            ping,
        ),
        "could not connect": (f"{host}:{port} cannot be reached", other, ping),
        "connection to server": (f"no connection to {host}:{port}", other, ping),
    }
    for sign, (what, why, mend) in signs.items():
        if sign in text:
            return broken(SUBJECT, what, why=why, mend=mend)
    return None


def judge_database(info: DatabaseInfo, fleet: Fleet) -> list[Finding]:
    """Findings on the database, from what it says about itself."""
    return [
        _judge_server(info),
        *_judge_extension(info),
        _judge_schema(info),
        _judge_rights(info),
        _judge_connections(info, fleet),
    ]


def _judge_server(info: DatabaseInfo) -> Finding:
    version = info.version // 10_000
    if version < OLDEST_VERSION:
        return broken(
            SUBJECT,
            f"PostgreSQL {version} is too old: {OLDEST_VERSION} or newer is needed",
            why="pgvector does not support it, nor does PostgreSQL's own project.",
            mend="pg_upgrade",
        )
    if info.is_read_only:
        return broken(
            SUBJECT,
            f"{info.name} is read-only",
            why="It is a replica, or a node that was demoted: the worker waits until it can write.",
            mend="SELECT pg_promote();   -- or set DATABASE_URL to the primary",
        )
    return fine(SUBJECT, f"PostgreSQL {version}, database {info.name}, as {info.user}")


def _judge_extension(info: DatabaseInfo) -> list[Finding]:
    if info.has_extension:
        return []
    name = schema.EXTENSION
    if not info.extension_is_available:
        return [
            broken(
                "pgvector",
                f"PostgreSQL's server has no extension {name}",
                why="Embeddings are stored in its columns: no migration runs without it.",
                mend=f"apt install postgresql-{info.version // 10_000}-pgvector",
            )
        ]
    return [
        broken(
            "pgvector",
            f"the extension {name} is not in the database {info.name}",
            why="Embeddings are stored in its columns. An administrator may have to create it.",
            mend=f"CREATE EXTENSION {name};   -- in {info.name}",
        )
    ]


def _judge_schema(info: DatabaseInfo) -> Finding:
    if not info.schema_fault:
        more = f", and newer ones that it can work with: {', '.join(info.newer)}" if info.newer else ""
        return fine("schema", f"has all migrations of this version{more}")
    what, _, mend = info.schema_fault.partition(": ")
    mend = "graphnode migrate" if "graphnode migrate" in mend else mend.rstrip(".")
    return broken("schema", what, why="The worker does not start on it.", mend=mend)


def _judge_rights(info: DatabaseInfo) -> Finding:
    if info.schema_fault:
        return unchecked("table rights", "not checked: that needs the schema first")
    if not info.lacking:
        return fine("table rights", f"{info.user} has all rights that a worker needs")
    first, rights = next(iter(info.lacking.items()))
    others = f" and {len(info.lacking) - 1} more tables" if len(info.lacking) > 1 else ""
    grants = [f"GRANT {', '.join(needed)} ON {table}" for table, needed in info.lacking.items()]
    if len(info.lacking) > FEW_TABLES:
        # The role is created by deploy/postgres-roles.sql.
        grants = ["GRANT graphnode_worker"]
    return broken(
        "table rights",
        f"{info.user} may not {', '.join(rights)} on {first}{others}",
        why="The migrations were run by another user, who owns the tables.",
        mend=" ".join(f'{grant} TO "{info.user}";' for grant in grants),
    )


def _judge_connections(info: DatabaseInfo, fleet: Fleet) -> Finding:
    """Compare the workers' connections with the smallest limit.

    Other programs' connections count for the server's limit only.
    """
    needed = fleet.connections
    limits = [
        (
            info.usable_connections - info.others_connections,
            "max_connections leaves",
            f"ALTER SYSTEM SET max_connections = {info.usable_connections + needed};   -- and restart",
        )
    ]
    for limit, kind, name in (
        (info.user_limit, "role", info.user),
        (info.database_limit, "database", info.name),
    ):
        if limit is not None:
            mend = f'ALTER {kind.upper()} "{name}" CONNECTION LIMIT {needed};'
            limits.append((limit, f"the limit of the {kind} {name} is", mend))
    room, what, mend = min(limits)
    if needed <= room:
        return fine("connections", f"{needed} at most ({fleet.source}), room for {room}")
    return warning(
        "connections",
        f"the workers may need {needed} ({fleet.source}), {what} {room}",
        why="When all are busy, threads wait for one another's connections; without any for 10 s it is an outage.",
        mend=mend,
    )
