"""All actors. Importing this package declares them on the worker's broker: `dramatiq graphnode.actors`."""

from __future__ import annotations

import importlib
import pkgutil

import dramatiq

from graphnode.broker import SQSBroker
from graphnode.worker import route_checks
from graphnode.worker.startup import worker_broker

#: By module, why Dramatiq refused to declare its actors. The worker reports it when it starts.
refused: dict[str, str] = {}

broker: SQSBroker = worker_broker(check=lambda: route_checks.check(broker.actors, refused=refused))
dramatiq.set_broker(broker)

# The decorators in these modules declare their actors on the broker just set.
for module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
    try:
        importlib.import_module(module.name)
    except ValueError as error:
        refused[module.name] = str(error)
