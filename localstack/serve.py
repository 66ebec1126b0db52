"""Run LocalStack on loopback only. Without this, it listens on every interface, whatever GATEWAY_LISTEN says."""

from __future__ import annotations

import functools
import runpy

from twisted.internet import endpoints

endpoints.TCP4ServerEndpoint = functools.partial(endpoints.TCP4ServerEndpoint, interface="127.0.0.1")
runpy.run_module("localstack.runtime.main", run_name="__main__")
