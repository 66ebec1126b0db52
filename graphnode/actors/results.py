"""The way of every result with documents: a look at its task, its documents, then one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from graphnode.actors.effects import Effects, effects_of, is_repeated
from graphnode.clients.s3 import check_keys
from graphnode.contract.envelopes import Envelope, ResultPayload

P = TypeVar("P", bound=ResultPayload)
D = TypeVar("D")


def handle_result(
    envelope: Envelope[P],
    *,
    user_id: str,
    fetch: Callable[[Envelope[P], Counter[str]], D],
    store: Callable[[Effects[P], D], None],
    fail: Callable[[Effects[P]], None],
) -> None:
    """Give a result its one effect.

    Parameters:
      envelope: the message.
      user_id: whose task it is.
      fetch: reads and decodes the documents of a COMPLETED result, before the transaction. The warnings that it counts
        go to the task.
      store: writes what a COMPLETED result brings, in the transaction.
      fail: writes what a FAILED result means, in the transaction.

    Raises UserLocked while another session works on the user, WrongOwner for another user's task, and ForbiddenKey.
    """
    check_keys(envelope.payload.s3_keys, user_id=user_id)
    completed = envelope.payload.status == "COMPLETED"
    # Before anything is fetched: a message that must wait does so without a thread, memory or documents.
    if completed and is_repeated(envelope, user_id=user_id):
        return
    warnings = Counter[str]()
    documents = fetch(envelope, warnings) if completed else None
    with effects_of(envelope, user_id=user_id) as effects:
        if effects.repeated:
            return
        effects.warnings.update(warnings)
        if documents is None:
            fail(effects)
        else:
            store(effects, documents)
