"""The overview, and the workers: both show the newest reading, which no page waits for."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from graphnode.console.rendering import backends, render
from graphnode.operations.status.condition import Urgency, conditions

#: Seconds that the first page after the start waits for a reading.
FIRST_S = 1.5


def overview(request: Request) -> Response:
    """How things are: a sentence, queues, the last hour, workers, outages."""
    read = backends(request).overview.latest(wait_s=FIRST_S)
    found = conditions(read.status) if read else []
    return render(
        request,
        "overview.html",
        read=read,
        conditions=found,
        urgencies=Urgency,
        worst=found[0].urgency if found else None,
    )


def workers(request: Request) -> Response:
    """The worker processes."""
    read = backends(request).overview.latest(wait_s=FIRST_S)
    activity = read.status.activity if read else None
    return render(request, "workers.html", read=read, activity=activity)
