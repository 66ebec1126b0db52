"""Decodes Dramatiq's own messages, from a queue that others may be able to write to.

Dramatiq's decoder accepts anything, and its worker obeys the options in a message. This one accepts only a message for
an actor of its own queue, with the arguments that the actor takes, and keeps no option but the trace.
"""

from __future__ import annotations

import inspect
import typing
from base64 import b64decode
from collections.abc import Mapping
from functools import cache
from typing import Any

import dramatiq
import msgspec

from graphnode.errors import InvalidMessage, one_line
from graphnode.text import LONGEST_PROBLEM, excerpt

#: The option that a message keeps: its trace context, as headers.
TRACE = "trace"


class Wire(msgspec.Struct, frozen=True):
    """A message as Dramatiq encodes it. https://dramatiq.io/reference.html#dramatiq.Message"""

    queue_name: str
    actor_name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: dict[str, Any]
    message_id: str
    message_timestamp: int


# msgspec prepares a type at its first use, and crashes the process when two threads do that at once.
_decoder = msgspec.json.Decoder(Wire)


def decode(body: str, *, queue_name: str, actors: Mapping[str, dramatiq.Actor[Any, Any]]) -> dramatiq.Message[None]:
    """Decode a body into a message for one of the actors. Raises InvalidMessage.

    Parameters:
      body: JSON in base64.
      queue_name: the Dramatiq queue that it came from.
      actors: the broker's actors, by name.
    """
    wire = read(body)
    actor = actors.get(wire.actor_name)
    if not actor or not actor.queue_name == wire.queue_name == queue_name:
        raise InvalidMessage(
            f"no actor {excerpt(wire.actor_name)!r} on the queue {queue_name!r}",
            log=f"no such actor on the queue {queue_name!r}",
        )
    _check_arguments(actor, wire)
    trace = wire.options.get(TRACE)
    return dramatiq.Message(
        queue_name=queue_name,
        actor_name=wire.actor_name,
        args=wire.args,
        kwargs=wire.kwargs,
        options={TRACE: trace} if _is_trace(trace) else {},
        message_id=wire.message_id,
        message_timestamp=wire.message_timestamp,
    )


def read(body: str) -> Wire:
    """Decode a body for any actor. Raises InvalidMessage."""
    try:
        return _decoder.decode(b64decode(body, validate=True))
    except (ValueError, RecursionError) as error:
        said = "the body is no Dramatiq message"
        raise InvalidMessage(f"{said}: {_briefly(error)}", log=said) from None


def _briefly(error: Exception) -> str:
    """The error on one line, shortened: msgspec names each level of a nested value."""
    return excerpt(one_line(error), most=LONGEST_PROBLEM)


def _check_arguments(actor: dramatiq.Actor[Any, Any], wire: Wire) -> None:
    signature, types = _signature(actor.fn)
    try:
        given = signature.bind(*wire.args, **wire.kwargs).arguments
        for name, value in given.items():
            msgspec.convert(value, types[name])
    except (TypeError, msgspec.ValidationError) as error:
        said = f"not the arguments of the actor {actor.actor_name!r}"
        raise InvalidMessage(f"{said}: {_briefly(error)}", log=said) from None


@cache
def _signature(function: Any) -> tuple[inspect.Signature, dict[str, Any]]:
    return inspect.signature(function), typing.get_type_hints(function, include_extras=True)


def _is_trace(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
