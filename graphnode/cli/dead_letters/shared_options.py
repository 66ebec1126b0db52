"""Options that several `graphnode dlq` commands have."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import reduce, wraps
from typing import Any

import click

from graphnode.cli.environment import env_file_option
from graphnode.cli.names import Name
from graphnode.contract.envelopes import ROUTES
from graphnode.contract.requests import REQUESTS
from graphnode.operations.dead_letters.advice import ADVICE
from graphnode.settings import QUEUE_URLS

#: The types of letters.
TYPES = (*ROUTES, *REQUESTS)

queue_option = click.option(
    "--queue", "names", type=click.Choice(list(QUEUE_URLS)), multiple=True, help="Only this queue; may be repeated."
)


def _duration(_context: click.Context, _option: click.Parameter, value: str | None) -> timedelta | None:
    from graphnode.contract.timeouts import typed_duration

    if value is None:
        return None
    found = typed_duration(value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no duration: expected such as 90s, 30m, 1h or 7d.")
    return found


def filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that select letters; the command gets them as one LetterFilter, `wanted`."""

    @wraps(command)
    def with_filter(
        reason: str | None, task_id: str | None, task_type: str | None, older_than: timedelta | None, **others: Any
    ) -> None:
        from graphnode.operations.dead_letters.letters import LetterFilter

        command(wanted=LetterFilter(reason, task_id, task_type, older_than), **others)

    options = [
        click.option(
            "--reason", type=Name("REASON", ADVICE), help="Only letters with this reason, such as OBJECT_NOT_FOUND."
        ),
        click.option("--task", "task_id", help="Only letters of the task with this ID."),
        click.option(
            "--type",
            "task_type",
            type=Name("TYPE", TYPES, more="Letters of types that no actor handles: --reason UNKNOWN_TASK_TYPE."),
            help="Only letters of this task type, such as ADD_NODE_RESULT.",
        ),
        click.option("--older-than", callback=_duration, help="Only letters older than this: 90s, 30m, 1h, 7d."),
        queue_option,
        env_file_option,
    ]
    return reduce(lambda wrapped, option: option(wrapped), reversed(options), with_filter)
