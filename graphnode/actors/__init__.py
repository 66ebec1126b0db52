"""All actors. Importing this package declares them on the worker's broker: `dramatiq graphnode.actors`."""

from __future__ import annotations

import importlib
import pkgutil

import dramatiq

from graphnode.envelopes import ROUTES
from graphnode.startup import worker_broker

broker = worker_broker()
dramatiq.set_broker(broker)

# The decorators in these modules declare their actors on the broker just set.
for module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
    importlib.import_module(module.name)

if undeclared := {route.actor for route in ROUTES.values()} - broker.actors.keys():
    raise LookupError(f"ROUTES in envelopes.py names actors that no module of graphnode/actors declares: {undeclared}")
