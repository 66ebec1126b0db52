"""All kills of a run, made in several deployments at the same time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from urllib.parse import urlsplit

import pytest

from benchmarks.fcm_stub import FcmServer
from graphnode.contract.decoding import decode_graph
from graphnode.dev.localstack import LocalStack
from graphnode.dev.samples import DOCUMENTS, DOCUMENTS_USER
from graphnode.rules.graph import clean_graph
from graphnode.storage import graphs
from graphnode.storage.database import close_database, open_database, user_transaction
from graphnode.storage.schema import migrate
from tests.conftest import new_database
from tests.e2e.conftest import fresh_environment
from tests.e2e.kill_points.scenarios import SCENARIOS, SEED, SENT_AT, Scenario
from tests.e2e.kill_points.slot import Finding, Slot, Undisturbed, between_steps
from tests.e2e.kill_points.victim import Point

#: The number of deployments. Each spends most of its time waiting until a message is visible again.
SLOTS = 6

#: Whether to kill at both edges of every step, instead of once between two steps. It takes twice as long.
EVERY_EDGE = os.environ.get("KILL_POINTS") == "all"


class Kills:
    """The kills of a run. Each scenario runs once without a kill, and then once for each of its points.

    Parameters:
      slots: the deployments.
    """

    def __init__(self, slots: list[Slot]) -> None:
        self._free: SimpleQueue[Slot] = SimpleQueue()
        for slot in slots:
            self._free.put(slot)
        self._threads = ThreadPoolExecutor(len(slots))
        self._watched = {scenario: self._threads.submit(self._watch, scenario) for scenario in SCENARIOS}
        self._killed: dict[Scenario, list[Future[Finding]]] = {}

    def watched(self, scenario: Scenario) -> Undisturbed:
        """The result of a scenario without a kill."""
        return self._watched[scenario].result()

    def start(self) -> None:
        """Begin all kills, in the order of the scenarios."""
        for scenario in SCENARIOS:
            points = self.watched(scenario).points
            if not EVERY_EDGE:
                points = between_steps(points)
            self._killed[scenario] = [self._threads.submit(self._kill, scenario, point) for point in points]

    def findings(self, scenario: Scenario) -> list[Finding]:
        """The findings of all kills in a scenario, as soon as all are made."""
        return [kill.result() for kill in self._killed[scenario]]

    def end(self) -> None:
        """Cancel the kills that have not begun."""
        self._threads.shutdown(cancel_futures=True)

    def _watch(self, scenario: Scenario) -> Undisturbed:
        slot = self._free.get()
        try:
            return slot.watch(scenario)
        finally:
            self._free.put(slot)

    def _kill(self, scenario: Scenario, point: Point) -> Finding:
        slot = self._free.get()
        try:
            return slot.kill(scenario, point, self.watched(scenario))
        except (TimeoutError, RuntimeError) as error:
            return Finding(scenario.name, point, None, None, [], [str(error)])
        finally:
            self._free.put(slot)


@pytest.fixture(scope="session")
def seeded_database(postgres: str) -> Iterator[str]:
    """The name of a database with the newest schema and one user with a graph. It has no connections."""
    with new_database(postgres) as url:
        open_database(url)
        migrate()
        document = (DOCUMENTS / "graph.json").read_text(encoding="utf-8").replace(DOCUMENTS_USER, SEED).encode()
        rows, _ = clean_graph(decode_graph(document))
        with user_transaction(SEED):
            graphs.replace_graph(SEED, rows, source_timestamp=SENT_AT.replace(year=SENT_AT.year - 1))
        close_database()
        yield urlsplit(url).path[1:]


@pytest.fixture(scope="session")
def kills(
    localstack: LocalStack, postgres: str, seeded_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kills]:
    """All kills. They continue while the tests check the first ones."""
    logs: Path = tmp_path_factory.mktemp("kill-points")
    with ExitStack() as running:
        fcm = running.enter_context(FcmServer())
        slots = []
        for number in range(SLOTS):
            url = running.enter_context(new_database(postgres, template=seeded_database))
            slot = Slot(fresh_environment(localstack, url), fcm, logs / f"{number}.log")
            running.callback(slot.close)
            slots.append(slot)
        kills = Kills(slots)
        running.callback(kills.end)
        kills.start()
        yield kills


@pytest.fixture(scope="session")
def passed(kills: Kills) -> set[str]:
    """The steps that at least one scenario passes."""
    return set(chain.from_iterable(kills.watched(scenario).passed for scenario in SCENARIOS))
