"""An upgrade under load: the previous release's workers keep working, and restart, during and after the migration.

The previous release runs from its wheel (tests/releases). The schema is migrated to this version's, and further to that
of a future release, which has each kind of change (tests/next_release).
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.fcm_stub import FcmServer
from graphnode.dev.child_processes import READY, Service, Worker, WorkerError
from graphnode.dev.local_aws import s3_client, sqs_client
from graphnode.dev.localstack import LocalStack
from graphnode.dev.outcomes import dead_letters
from graphnode.dev.samples import Result
from graphnode.errors import SchemaError
from graphnode.settings import UNUSED_QUEUE
from graphnode.storage import schema
from graphnode.storage.database import close_database, open_database
from tests import previous_release
from tests.conftest import DEPLOY, execute, in_role, new_database
from tests.e2e.ai_server import AiServer
from tests.e2e.conftest import SETTINGS, as_worker, fresh_environment, make_queues

NEXT_RELEASE = Path(__file__).parents[1] / "next_release"

#: The messages of a killed worker are delivered again after 4 s. Its row counts as a running worker for three sweeps.
QUICK = {**SETTINGS, "GRAPHNODE_VISIBILITY_TIMEOUT": "4", "GRAPHNODE_SWEEP_INTERVAL": "0.5"}

#: Runs the previous release's code without measuring coverage.
PYTHON = ("env", "-u", "COVERAGE_PROCESS_START", "-u", "COVERAGE_PROCESS_CONFIG", sys.executable)

#: A device for each user to whom a notification can be pushed.
ADD_DEVICES = """
INSERT INTO device_tokens (token, user_id)
SELECT 'phone of ' || owner, owner FROM (
    SELECT 'ada' AS owner
    UNION SELECT kind || '-' || number FROM unnest(%s) AS kind, generate_series(0, 1000) AS number
) AS owners
"""

#: Ends the leases of a killed worker's pushes, as if five minutes had passed.
END_LEASES = """
UPDATE notifications SET due_at = now(), retry_at = now(), claimed_at = claimed_at - interval '5 minutes'
WHERE id = ANY(%s) AND due_at IS NOT NULL
"""

#: The number of results that are handled before the upgrade, and after each of its steps.
ENOUGH = 20

#: Seconds between two results.
PAUSE_S = 0.05

#: A log line of a fault, in the format of any process.
FAULT = re.compile(r"^.*(?:\[(?:warning|error|critical) *\]|Traceback|ERROR|CRITICAL).*$", re.MULTILINE)


#: The type of the one notification for each task of a type in this state.
NOTIFIED = {
    ("GRAPH_GENERATION_RESULT", "COMPLETED"): "GRAPH_GENERATION_COMPLETED",
    ("GRAPH_GENERATION_RESULT", "PROGRESS"): "GRAPH_GENERATION_PROGRESS_UPDATED",
    ("GRAPH_SUMMARY_RESULT", "COMPLETED"): "GRAPH_SUMMARY_COMPLETED",
    ("ADD_NODE_RESULT", "COMPLETED"): "ADD_CONVERSATION_COMPLETED",
}


class Load(threading.Thread):
    """Sends results of all types, round after round, until `ended` is set.

    Each result has a new user, so that none is superseded. New nodes go into the graph of the first result.
    """

    ROUND = ("graph", "progress", "summary", "add-node", "block", "nonblock", "microscope-from-node")

    def __init__(self, ai: AiServer) -> None:
        super().__init__(daemon=True)
        self.ai = ai
        self.ended = threading.Event()
        #: The expected state of each task at the end, by its key.
        self.expected: dict[tuple[str, str], str] = {}

    def run(self) -> None:
        self.ai.ended(self.send("graph", user_id="ada"))
        for number in itertools.count():
            for name in self.ROUND:
                if self.ended.wait(PAUSE_S):
                    return
                if name in ("block", "nonblock"):
                    reader = f"reader-{number}"
                    document = f"task_microscope_file_{reader}_01J9ZZZZZZZZZZZZZZZZZZZZZA"
                    self.send("microscope", user_id=reader, task_id=document, group_id=f"w-{number}", half=name)
                else:
                    self.send(name, user_id="ada" if name == "add-node" else f"{name}-{number}")

    def send(self, name: str, **options: str) -> Result:
        """Send a result of a kind, and keep its task's expected state."""
        if name == "progress":
            stage = {"currentStage": "clustering", "progressPercent": 40}
            result = self.ai.send(self.ai.result(name, extra=stage, **options))
            self.expected[result.task_id, "GRAPH_GENERATION_RESULT"] = "PROGRESS"
        else:
            result = self.ai.send(self.ai.result(name, **options))
            self.expected[result.task_id, result.task_type] = "COMPLETED"
        return result


class Upgrade:
    """The steps of an upgrade, and what they left.

    Parameters:
      ai: the AI server and the operator of the stack.
      code: the directory of the unpacked previous release.
      fcm: receives the pushes of all workers.
    """

    def __init__(self, ai: AiServer, code: Path, fcm: FcmServer) -> None:
        self.ai = ai
        self.fcm = fcm
        #: The notifications that the killed worker may have pushed without a trace.
        self.interrupted: set[str] = set()
        self.old = {"PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"}
        self.services: list[Service] = []
        #: The lines that the migration printed.
        self.printed: list[str] = []
        #: The versions of the running processes, before and after the upgrade.
        self.versions: list[set[str]] = []
        self.load = Load(ai)

    def start_old(self) -> Service:
        """Start a worker of the previous release."""
        command = [*PYTHON, "-m", "dramatiq", "graphnode.actors", "--path", self.old["PYTHONPATH"]]
        command += ["--processes", "1", "--threads", "4"]
        environment = {**QUICK, **as_worker(dict(self.ai.environment)), **self.old}
        self.services.append(Service("worker of the release before", command, environment, ready=READY))
        return self.services[-1]

    def start_new(self) -> Service:
        """Start a worker of this version."""
        self.services.append(Worker({**QUICK, **as_worker(dict(self.ai.environment))}))
        return self.services[-1]

    def migrate_old(self) -> str:
        """Run `graphnode migrate` of the previous release; returns its output."""
        command = [*PYTHON, "-c", "from graphnode.cli import main; main()", "migrate"]
        environment = {**os.environ, **self.old, "DATABASE_URL": self.owner}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return ran.stdout

    def migrate(self) -> list[str]:
        """Migrate the schema with this version; the applied migrations."""
        open_database(self.owner)
        try:
            return schema.migrate(tell=self.printed.append)
        finally:
            close_database()

    @property
    def owner(self) -> str:
        """The database URL of the role that migrates."""
        return in_role(self.ai.environment["DATABASE_URL"], "graphnode_owner")

    def wait_for_results(self, count: int) -> None:
        """Wait until this many more results are stored."""
        ended = "SELECT count(*) FROM tasks WHERE status = 'COMPLETED'"
        ((before,),) = self.ai.rows(ended)
        self.ai.wait_until(f"{ended} HAVING count(*) >= %(enough)s", enough=before + count)

    def look_at_versions(self) -> None:
        """Keep the versions of the processes that run now."""
        self.versions.append({version for (version,) in self.ai.rows("SELECT version FROM workers")})

    def stop(self) -> None:
        """Stop all workers at the same time."""
        with ThreadPoolExecutor() as threads:
            list(threads.map(Service.stop, self.services))

    def logs(self) -> str:
        """The logs of all workers."""
        return "\n".join(service.log.text() for service in self.services)


@pytest.fixture(scope="module")
def next_release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The migrations of a future release: this version's, and tests/next_release without the contracting one."""
    directory = tmp_path_factory.mktemp("next") / "migrations"
    shutil.copytree(schema.MIGRATIONS, directory)
    for file in NEXT_RELEASE.glob("900[1-3]*.py"):
        shutil.copy(file, directory)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", directory)
        yield directory


@pytest.fixture(scope="module")
def upgrade(
    localstack: LocalStack, postgres: str, next_release: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Upgrade]:
    """A finished upgrade: of two old workers one was stopped and one killed, and a new one was started at the end."""
    code = tmp_path_factory.mktemp("previous")
    previous_release.unpack(code)
    with new_database(postgres) as url, ExitStack() as ending:
        fcm = ending.enter_context(FcmServer())
        environment = {**fresh_environment(localstack, url), **fcm.environment}
        prefix = environment["SQS_RESULT_QUEUE_URL"].rpartition("/")[2].removesuffix("-results")
        environment[UNUSED_QUEUE] = localstack.queue_url(f"{prefix}-notifications")
        make_queues(sqs_client(environment), prefix, ["notifications"])
        ai = AiServer(environment, sqs_client(environment), s3_client(environment))
        done = Upgrade(ai, code, fcm)
        ending.callback(done.stop)
        execute(url, (DEPLOY / "postgres-roles.sql").read_text())
        done.migrate_old()
        ai.execute(ADD_DEVICES, list(Load.ROUND))
        execute(done.owner, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO graphnode_worker")
        stopped, killed = done.start_old(), done.start_old()
        stopped.wait_until_ready()
        killed.wait_until_ready()
        done.load.start()
        ending.callback(done.load.ended.set)
        done.wait_for_results(ENOUGH)
        done.look_at_versions()

        done.migrate()
        execute(done.owner, (DEPLOY / "postgres-grants.sql").read_text())

        os.killpg(killed.pid, signal.SIGKILL)
        done.interrupted = {one for (one,) in ai.rows("SELECT id FROM notifications WHERE push_status = 'SENDING'")}
        restarted = [done.start_old(), done.start_old()]
        assert stopped.stop() == 0
        for service in restarted:
            service.wait_until_ready()
        done.wait_for_results(ENOUGH)
        done.start_new().wait_until_ready()
        done.wait_for_results(ENOUGH)
        done.look_at_versions()
        done.load.ended.set()
        done.load.join()
        done.ai.wait_until_drained()
        done.ai.execute(END_LEASES, list(done.interrupted))
        done.ai.wait_until("SELECT 1 WHERE NOT EXISTS (SELECT FROM notifications WHERE due_at IS NOT NULL)")
        yield done


def test_the_schema_was_changed_while_the_previous_release_worked(upgrade: Upgrade) -> None:
    from graphnode import __version__

    assert __version__ != previous_release.VERSION
    assert upgrade.versions == [{previous_release.VERSION}, {previous_release.VERSION, __version__}]
    applied = [line.split()[1].rstrip(":") for line in upgrade.printed if line.startswith("applied")]
    new = sorted(path.stem for path in schema.MIGRATIONS.glob("[0-9]*.py"))
    assert applied == [name for name in new if name not in previous_release.migrations()]
    assert applied[-3:] == ["9001_priority", "9002_priority_index", "9003_priority_filled"]


def test_each_result_was_applied_once(upgrade: Upgrade) -> None:
    ai, expected = upgrade.ai, upgrade.load.expected

    assert len(expected) > 3 * ENOUGH
    tasks = ai.rows("SELECT task_id, task_type, status FROM tasks")
    assert {(task, kind): status for task, kind, status in tasks} == expected
    notified = dict(ai.rows("SELECT type, count(*) FROM notifications GROUP BY type"))
    ends = Counter((kind, status) for (_, kind), status in expected.items())
    assert {name: notified[name] for name in NOTIFIED.values()} == {name: ends[end] for end, name in NOTIFIED.items()}


def test_each_notification_was_pushed_once(upgrade: Upgrade) -> None:
    pushed = upgrade.ai.rows("SELECT id FROM notifications WHERE push_status <> 'SKIPPED'")
    taken = upgrade.fcm.times_taken()

    assert len(pushed) > ENOUGH
    assert taken.keys() == {one for (one,) in pushed}
    assert {one for one, times in taken.items() if times > 1} <= upgrade.interrupted


def test_no_message_failed_and_none_became_a_dead_letter(upgrade: Upgrade) -> None:
    assert upgrade.ai.rows("SELECT * FROM task_attempts") == []
    assert upgrade.ai.rows("SELECT * FROM message_failures") == []
    for url in upgrade.ai.all_queues():
        assert dead_letters(upgrade.ai.sqs, url) == []


def test_no_worker_logged_a_fault(upgrade: Upgrade) -> None:
    assert FAULT.findall(upgrade.logs()) == []


def test_the_previous_release_says_that_it_can_work_with_the_schema(upgrade: Upgrade) -> None:
    said = "the database is newer than this worker, which can work with it"

    assert upgrade.logs().count(said) >= 2
    assert "this version works with it" in upgrade.migrate_old()


def test_a_contracting_migration_waits_for_the_previous_release_and_then_locks_it_out(
    upgrade: Upgrade, next_release: Path
) -> None:
    shutil.copy(NEXT_RELEASE / "9004_without_eta.py", next_release)

    with pytest.raises(SchemaError, match=rf"9004_without_eta removes .*\({previous_release.VERSION}\)"):
        upgrade.migrate()

    upgrade.stop()
    upgrade.ai.wait_until("SELECT 1 WHERE NOT EXISTS (SELECT FROM workers WHERE seen_at > now() - interval '1.5 s')")
    assert upgrade.migrate() == ["9004_without_eta"]
    with pytest.raises(WorkerError) as caught:
        upgrade.start_old().wait_until_ready()
    assert "does not know " in str(caught.value)
    assert "9001_priority, 9002_priority_index" in str(caught.value)
    assert "would have to know 9003_priority_filled at least: deploy the newer worker" in str(caught.value)
