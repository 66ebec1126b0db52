"""What a command changes is recorded in the audit table, if the database can be reached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import click

from graphnode.cli.environment import open_database
from graphnode.errors import classify_error
from graphnode.operations.actions import Actor, Recording, person, recorded


@contextmanager
def recorded_command(
    action: str,
    subject: str,
    *,
    environment: Mapping[str, str] | None = None,
    because: str | None = None,
    user_id: str | None = None,
    changes: bool = True,
) -> Iterator[Recording]:
    """Record the action of the block. Without the database say so, and go on: an outage must keep nobody from acting.

    Parameters:
      action, subject, because, user_id: as of `recorded`.
      environment: has the address of the database; None: it is open.
      changes: whether the block changes anything; a dry run is not recorded.
    """
    if not changes:
        yield Recording()
        return
    with ExitStack() as stack:
        try:
            if environment is not None:
                stack.enter_context(open_database(environment))
            recording = stack.enter_context(
                recorded(action, subject, Actor(person(), "command"), because=because, user_id=user_id)
            )
        except Exception as raised:
            click.echo(f"Not recorded in the audit table: {classify_error(raised)}", err=True)
            recording = Recording()
        yield recording
