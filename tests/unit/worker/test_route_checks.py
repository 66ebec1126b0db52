"""Each step that is forgotten when a task type is added is reported, with what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker

from graphnode import actors
from graphnode.contract import envelopes
from graphnode.contract.envelopes import (
    RESULT_QUEUE,
    AddNodeResult,
    Envelope,
    GraphGenerationProgress,
    GraphSummaryResult,
    Id,
    ResultPayload,
    Route,
)
from graphnode.errors import DeclarationError
from graphnode.worker import route_checks
from graphnode.worker.route_checks import faults_of_actors, faults_of_payloads, faults_of_routes

if TYPE_CHECKING:
    from graphnode.contract.envelopes import Payload

ROUTES = {"ADD_NODE_RESULT": Route(AddNodeResult, "add_node", "ADD_NODE_RESULT")}

Declare = Callable[..., dict[str, dramatiq.Actor[Any, Any]]]


@pytest.fixture
def declare() -> Declare:
    """Declares an actor on a new broker; returns all actors of that broker."""

    def make(function: Callable[..., None], *, queue_name: str = RESULT_QUEUE) -> dict[str, dramatiq.Actor[Any, Any]]:
        broker = StubBroker()
        dramatiq.actor(broker=broker, actor_name="add_node", queue_name=queue_name)(function)
        return broker.actors

    return make


def add_node(envelope: Envelope[AddNodeResult]) -> None: ...
def of_another(envelope: Envelope[GraphSummaryResult]) -> None: ...
def without_type(envelope) -> None: ...  # type: ignore[no-untyped-def]
def of_its_payload(result: AddNodeResult) -> None: ...
def of_two(envelope: Envelope[AddNodeResult], user_id: str) -> None: ...
def without_argument() -> None: ...
def of_a_type_that_is_not_imported(envelope: Envelope[Payload]) -> None: ...


def test_the_workers_own_declarations_have_no_fault() -> None:
    route_checks.check(actors.broker.actors, refused=actors.refused)


def test_an_actor_that_accepts_its_payload_has_no_fault(declare: Declare) -> None:
    declared = declare(add_node)

    assert list(faults_of_routes(ROUTES, declared)) == list(faults_of_actors(ROUTES, declared)) == []


def test_a_payload_without_a_route_is_a_fault() -> None:
    (fault,) = faults_of_payloads(ROUTES, [AddNodeResult, GraphSummaryResult])

    assert fault == (
        "graphnode/contract/envelopes.py: no task type has the payload GraphSummaryResult. "
        'Add a line to ROUTES: "TYPE": Route(GraphSummaryResult, "ACTOR", "TYPE"),'
    )


def test_a_payload_that_an_overdue_task_cannot_fill_is_a_fault() -> None:
    class Demanding(ResultPayload, frozen=True, kw_only=True):
        user_id: Id
        topic: str

    (fault,) = faults_of_payloads({"X_RESULT": Route(Demanding, "x", "X_RESULT")}, [Demanding])

    assert fault.startswith(
        "graphnode/contract/envelopes.py: Demanding cannot do without topic, which a task that is overdue"
    )
    assert "Give it a default" in fault


def test_a_route_to_an_actor_that_does_not_exist_is_a_fault(declare: Declare) -> None:
    routes = {**ROUTES, "X_RESULT": Route(GraphSummaryResult, "nobody", "X_RESULT")}

    (fault,) = faults_of_routes(routes, declare(add_node))

    assert fault == (
        "graphnode/contract/envelopes.py: ROUTES['X_RESULT'] names the actor 'nobody', "
        "which no module of graphnode/actors declares (they declare add_node). Add graphnode/actors/nobody.py with "
        '@dramatiq.actor(actor_name="nobody", queue_name=RESULT_QUEUE), or mend the name.'
    )


@pytest.mark.parametrize("under", ["ADD_NODE", "X_PROGRESS"])
def test_a_route_whose_task_no_result_ends_is_a_fault(under: str, declare: Declare) -> None:
    routes = {**ROUTES, "X_PROGRESS": Route(GraphGenerationProgress, "add_node", under)}

    (fault,) = faults_of_routes(routes, declare(add_node))

    assert fault.startswith(
        f"graphnode/contract/envelopes.py: ROUTES['X_PROGRESS'] keeps its task under '{under}', which is no"
    )


def test_an_actor_that_no_route_names_is_a_fault(declare: Declare) -> None:
    (fault,) = faults_of_actors({}, declare(add_node))

    assert fault == (
        f"{__name__}: the actor 'add_node' gets no message. Add a line to ROUTES in graphnode/contract/envelopes.py: "
        '"TYPE": Route(PAYLOAD, "add_node", "TYPE"),'
    )


def test_an_actor_on_dramatiqs_default_queue_is_a_fault(declare: Declare) -> None:
    (fault,) = faults_of_actors(ROUTES, declare(add_node, queue_name="default"))

    assert fault == (
        f"{__name__}: the actor 'add_node' is on the queue 'default'. Declare it with queue_name=RESULT_QUEUE."
    )


@pytest.mark.parametrize("function", [of_another, without_type, of_its_payload, of_two, without_argument])
def test_an_actor_that_does_not_accept_its_payload_is_a_fault(function: Callable[..., None], declare: Declare) -> None:
    (fault,) = faults_of_actors(ROUTES, declare(function))

    assert fault.startswith(
        f"{__name__}: the actor 'add_node' must take one argument: "
        f"`def {function.__name__}(envelope: Envelope[AddNodeResult]) -> None`, "
        f"for ROUTES in graphnode/contract/envelopes.py sends it AddNodeResult. "
        f"It is declared as `def {function.__name__}("
    )


def test_an_actor_whose_types_are_imported_only_for_type_checking_is_a_fault(declare: Declare) -> None:
    (fault,) = faults_of_actors(ROUTES, declare(of_a_type_that_is_not_imported))

    assert "its signature cannot be read: name 'Payload' is not defined. Import it" in fault


def test_two_actors_of_one_name_are_a_fault(declare: Declare) -> None:
    declared = declare(add_node)
    with pytest.raises(ValueError, match="already registered") as caught:
        dramatiq.actor(broker=declared["add_node"].broker, actor_name="add_node", queue_name=RESULT_QUEUE)(of_another)

    with pytest.raises(DeclarationError) as refusal:
        route_checks.check(declared, refused={"graphnode.actors.copied": str(caught.value)})

    assert str(refusal.value) == (
        "1 declaration is wrong:\n"
        "  graphnode.actors.copied: An actor named 'add_node' is already registered. "
        f"Mend its `@dramatiq.actor(…)`, or that of {__name__}."
    )


def test_all_faults_are_reported_at_once() -> None:
    with pytest.raises(DeclarationError, match=rf"^{len(envelopes.ROUTES)} declarations are wrong:\n") as refusal:
        route_checks.check({}, refused={})

    assert str(refusal.value).count("names the actor") == len(envelopes.ROUTES)
