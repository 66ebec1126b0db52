"""A minute of fault injection on real workers leaves the tables, pushes and dead letters that the model expects."""

from __future__ import annotations

import json

import pytest

from tests.chaos.run import SHORT, run
from tests.chaos.seeds import read_seeds

SEEDS = [kept.seed for kept in read_seeds() if kept.minutes is None]


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_doubled_or_wrong_after_a_minute_of_faults(seed: int) -> None:
    outcome = run(SHORT, seed=seed, tell=print)

    assert outcome.verdict.is_good, (outcome.folder, outcome.verdict.lines[:20])
    line = json.loads(outcome.line)
    assert line["sent"] > SHORT.results
    assert line["pushes"] > 0
    assert line["dead_letters"] > 0
    # Which faults happen depends on the schedule, and on how long restarts take on this machine.
    assert line["faults"]
