"""The AsyncAPI 3 document of the two queues. https://www.asyncapi.com/docs/reference/specification/v3.0.0"""

from __future__ import annotations

from typing import Any

from graphnode import __version__
from graphnode.contract.envelopes import ROUTES
from graphnode.contract.requests import REQUESTS
from graphnode.contract.schemas.structs import summary


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI document. The schemas of the messages are the files beside it."""
    requests = {name: _message(name, summary(kind)) for name, kind in REQUESTS.items()}
    results = {task_type: _message(task_type, summary(route.payload)) for task_type, route in ROUTES.items()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "GraphNode worker",
            "version": __version__,
            "description": (
                "The two SQS queues between GraphNode's API server, its AI server and this worker. They are standard "
                "queues: a message can arrive more than once, and in any order. Each deployment names its queues: the "
                "worker finds their URLs in its environment. Each message has a JSON Schema (2020-12) in "
                "`schemas/messages/`."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "sqs": {
                "host": "sqs.{region}.amazonaws.com",
                "protocol": "sqs",
                "description": "Amazon SQS.",
                "variables": {"region": {"description": "The AWS region.", "default": "eu-central-1"}},
            }
        },
        "channels": {
            "requests": _channel("SQS_REQUEST_QUEUE_URL", "From the API server to the AI server.", requests),
            "results": _channel(
                "SQS_RESULT_QUEUE_URL",
                "From the AI server to the worker. A message that the worker can never handle goes to the dead-letter "
                "queue, byte for byte, with the reason in its message attributes.",
                results,
            ),
        },
        "operations": {
            "request": _operation("send", "requests", "The API server sends a request to the AI server."),
            "takeResult": _operation("receive", "results", "The worker receives a result of the AI server."),
        },
    }


def _message(task_type: str, description: str) -> dict[str, Any]:
    return {
        "name": task_type,
        "title": task_type,
        "summary": description,
        "correlationId": {"description": "The task.", "location": "$message.payload#/taskId"},
        "payload": {"$ref": f"./schemas/messages/{task_type}.json"},
    }


def _channel(variable: str, description: str, messages: dict[str, Any]) -> dict[str, Any]:
    return {
        # Each deployment has its own address.
        "address": None,
        "title": variable,
        "description": description,
        "servers": [{"$ref": "#/servers/sqs"}],
        "messages": messages,
    }


def _operation(action: str, channel: str, description: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": description}
