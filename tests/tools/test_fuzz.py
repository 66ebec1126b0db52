"""`python -m tests.fuzz`: the kept corpus and mutations of it, without atheris (docs/fuzzing.md)."""

from __future__ import annotations

import random
from importlib.util import find_spec

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.worst import KINDS
from graphnode.clients.memory import Weights
from tests.fuzz import costs
from tests.fuzz.__main__ import ENGINE
from tests.fuzz.checks import Finding
from tests.fuzz.corpus import CORPUS, kept, seeds
from tests.fuzz.costs import check_cost
from tests.fuzz.mutations import mutated
from tests.fuzz.targets import TARGETS, features, graph

#: The most bytes of the whole corpus.
MOST_KEPT_BYTES = 200_000


@pytest.mark.parametrize("name", TARGETS)
def test_a_decoder_takes_or_rightly_refuses_all_that_is_kept(name: str) -> None:
    for data in [*seeds(name), *(path.read_bytes() for path in kept(name))]:
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=25)
@given(data=st.data())
def test_a_decoder_takes_or_rightly_refuses_examples_that_are_changed(name: str, data: st.DataObject) -> None:
    example = data.draw(st.sampled_from([*seeds(name), *(path.read_bytes() for path in kept(name))]))

    TARGETS[name](mutated(example, 1 << 15, data.draw(st.integers(0, 2**32)), lambda raw, most: raw[:most]))


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=25)
@given(data=st.binary(max_size=200))
def test_a_decoder_takes_or_rightly_refuses_any_bytes(name: str, data: bytes) -> None:
    TARGETS[name](data)


def test_the_corpus_is_small_and_has_something_for_each_target() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
    assert all(map(kept, TARGETS))
    assert sum(path.stat().st_size for path in CORPUS.glob("*/*")) < MOST_KEPT_BYTES


def test_a_target_raises_for_what_it_is_to_find(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.checks.INTEGERS", range(1))
    with pytest.raises(Finding, match=r"graph_nodes\.num_messages is 21"):
        graph(seeds("graph")[0])

    monkeypatch.setattr("graphnode.contract.decoding.MAX_ID_LENGTH", 3)
    with pytest.raises(Finding, match="what is read in pieces is not what is in the whole document"):
        features(seeds("features")[0])


def test_the_engine_that_the_command_starts_is_there() -> None:
    assert find_spec(ENGINE)


def test_a_mutation_is_the_same_for_the_same_seed_and_often_still_json() -> None:
    example = seeds("graph")[0]

    assert mutated(example, 1 << 15, 7, _kept) == mutated(example, 1 << 15, 7, _kept)
    assert len({mutated(example, 1 << 15, random.Random(seed).getrandbits(32), _kept) for seed in range(50)}) > 30


def _kept(raw: bytes, most: int) -> bytes:
    return raw


def test_a_document_that_takes_more_than_is_booked_for_it_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    elements = b",".join([b"{}"] * 20_000)
    data = b'[{"nodes":[%b]}]' % elements
    check_cost(data, "microscope")

    light = next(kind for kind in KINDS if kind.name == "microscope")._replace(
        weights=Weights(text=1, character=1, value=1, array=1, object=1)
    )
    monkeypatch.setitem(costs._KINDS, "microscope", light)
    with pytest.raises(Finding, match=r"takes \d+ bytes of memory, and \d+ are booked"):
        check_cost(data, "microscope")

    monkeypatch.setattr(costs, "MOST_S", 0.0)
    with pytest.raises(Finding, match=r"takes 0\.\d s"):
        check_cost(b"[]", "microscope")
