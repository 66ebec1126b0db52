"""Checks that each task type's payload, its line in the routing table and its actor fit together."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dramatiq
import msgspec

from graphnode.contract import envelopes
from graphnode.contract.envelopes import RESULT_QUEUE, Envelope, Payload, ResultPayload, Route
from graphnode.errors import DeclarationError

#: The fields of the result that ends an overdue task (`actors/overdue.py`).
KNOWN_WHEN_OVERDUE = frozenset({"status", "user_id"})

Actors = Mapping[str, dramatiq.Actor[Any, Any]]


def check(actors: Actors, *, refused: Mapping[str, str]) -> None:
    """Check that each result reaches an actor that accepts it, and that each declaration is used.

    Parameters:
      actors: the broker's actors, by name.
      refused: by module, why Dramatiq refused to declare its actors.

    Raises DeclarationError, which lists all faults.
    """
    # A refused actor is missing from the routes, too: that is not a second fault.
    faults = list(faults_of_refused(refused, actors)) or [
        *faults_of_payloads(envelopes.ROUTES, payloads()),
        *faults_of_routes(envelopes.ROUTES, actors),
        *faults_of_actors(envelopes.ROUTES, actors),
    ]
    if faults:
        are = "1 declaration is" if len(faults) == 1 else f"{len(faults)} declarations are"
        raise DeclarationError("\n".join([f"{are} wrong:", *(f"  {fault}" for fault in faults)]))


def faults_of_refused(refused: Mapping[str, str], actors: Actors) -> Iterator[str]:
    """Why Dramatiq refused a module's actors; for a name that is taken, which other module has it."""
    for module, said in refused.items():
        others = [f", or that of {actor.fn.__module__}" for name, actor in actors.items() if repr(name) in said]
        yield f"{module}: {said} Mend its `@dramatiq.actor(…)`{''.join(others)}."


def payloads() -> list[type[Payload]]:
    """The payload classes of envelopes.py, without base classes."""
    declared = [kind for kind in vars(envelopes).values() if isinstance(kind, type) and issubclass(kind, Payload)]
    return [kind for kind in declared if not kind.__subclasses__()]


def faults_of_payloads(routes: Mapping[str, Route], declared: Iterable[type[Payload]]) -> Iterator[str]:
    """The faults of payload classes."""
    routed = {route.payload for route in routes.values()}
    for kind in declared:
        if kind not in routed:
            yield (
                f"graphnode/contract/envelopes.py: no task type has the payload {kind.__name__}. "
                f'Add a line to ROUTES: "TYPE": Route({kind.__name__}, "ACTOR", "TYPE"),'
            )
        required = {field.name for field in msgspec.structs.fields(kind) if field.required}
        if issubclass(kind, ResultPayload) and (unknown := sorted(required - KNOWN_WHEN_OVERDUE)):
            yield (
                f"graphnode/contract/envelopes.py: {kind.__name__} cannot do without {' and '.join(unknown)}, which a "
                "task that is overdue, or has failed, does not have. Give it a default, and if there is no success "
                "without it, name it in required_when_completed."
            )


def faults_of_routes(routes: Mapping[str, Route], actors: Actors) -> Iterator[str]:
    """The faults of lines of the routing table."""
    for task_type, route in routes.items():
        where = f"graphnode/contract/envelopes.py: ROUTES[{task_type!r}]"
        if route.actor not in actors:
            known = ", ".join(sorted(name for name, actor in actors.items() if actor.queue_name == RESULT_QUEUE))
            yield (
                f"{where} names the actor {route.actor!r}, which no module of graphnode/actors declares (they declare "
                f'{known}). Add graphnode/actors/{route.actor}.py with @dramatiq.actor(actor_name="{route.actor}", '
                "queue_name=RESULT_QUEUE), or mend the name."
            )
        ends = routes.get(route.task_type)
        if ends is None or not issubclass(ends.payload, ResultPayload):
            yield (
                f"{where} keeps its task under {route.task_type!r}, which is no type of a result. Name the type of the "
                "result that ends the task."
            )


def faults_of_actors(routes: Mapping[str, Route], actors: Actors) -> Iterator[str]:
    """The faults of actors that the routing table names or should name."""
    routed = {route.actor: route.payload for route in routes.values()}
    for name, actor in actors.items():
        where = f"{actor.fn.__module__}: the actor {name!r}"
        if name not in routed:
            if actor.queue_name == RESULT_QUEUE:
                yield (
                    f"{where} gets no message. Add a line to ROUTES in graphnode/contract/envelopes.py: "
                    f'"TYPE": Route(PAYLOAD, "{name}", "TYPE"),'
                )
            continue
        if actor.queue_name != RESULT_QUEUE:
            yield f"{where} is on the queue {actor.queue_name!r}. Declare it with queue_name=RESULT_QUEUE."
        try:
            fits = _takes(actor.fn, routed[name])
        except NameError as error:
            yield f"{where}: its signature cannot be read: {error}. Import it where it is seen when the worker runs."
            continue
        if not fits:
            payload = routed[name].__name__
            yield (
                f"{where} must take one argument: `def {actor.fn.__name__}(envelope: Envelope[{payload}]) -> None`, "
                f"for ROUTES in graphnode/contract/envelopes.py sends it {payload}. It is declared as "
                f"`def {actor.fn.__name__}{inspect.signature(actor.fn)}`."
            )


def _takes(function: Any, payload: type[Payload]) -> bool:
    """Whether a function takes one envelope with this payload."""
    parameters = list(inspect.signature(function).parameters.values())
    return len(parameters) == 1 and typing.get_type_hints(function).get(parameters[0].name) == Envelope[payload]  # type: ignore[valid-type]
