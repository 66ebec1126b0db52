"""Traces for OpenTelemetry: one for each task, from its producer's span to the push.

A message that carries a W3C context (the message attributes `traceparent` and `tracestate`, as OpenTelemetry's
instrumentations of SQS clients write them) continues its producer's trace. For any other message the trace ID is
computed from the task's ID, so that a task's progress, attempts and results share one trace. A notification's message
carries the context in Dramatiq's options. Spans are named and described by the conventions for messaging:
https://opentelemetry.io/docs/specs/semconv/messaging/
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import structlog
from dramatiq import Broker, Message, MessageProxy, Middleware, Worker

from graphnode.errors import classify_error, log_text
from graphnode.sqs import dramatiq_messages
from graphnode.sqs.deliveries import Delivery
from graphnode.sqs.verdicts import Abandon, Ack, DeadLetter, Discard, Nack, Park, Retry
from graphnode.steps import Step, subscribe

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

#: The message attributes that carry a context. https://www.w3.org/TR/trace-context/
CARRIER = ("traceparent", "tracestate")

#: OpenTelemetry's variables that say where traces go. Without one, there are no traces.
SWITCHES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

SERVICE_NAME = "graphnode-worker"

#: The span attribute `graphnode.verdict`, by the class of the verdict.
VERDICTS = {
    Ack: "done",
    Discard: "discard",
    Retry: "retry",
    DeadLetter: "dead",
    Park: "hold",
    Nack: "release",
    Abandon: "forget",
    type(None): "nonetype",
}

#: The ID of the next trace that begins in this thread; None: a random one.
_next_trace_id: ContextVar[int | None] = ContextVar("next_trace_id", default=None)

_NO_SPAN: AbstractContextManager[None] = nullcontext()

log = structlog.get_logger("graphnode.traces")


def are_wanted(environment: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry's variables ask for traces."""
    is_off = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    is_off |= environment.get("OTEL_TRACES_EXPORTER") == "none"
    return not is_off and any(environment.get(name) for name in SWITCHES)


class Traces(Middleware):
    """A span for each attempt, with one inside for each step. OTEL_* variables set the exporter up.

    Parameters:
      provider: where spans go. None: as OTEL_* variables say.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._provider = provider
        self._running = threading.local()

    def after_process_boot(self, broker: Broker) -> None:
        """Set up, in the worker process: the exporter has a thread."""
        self._provider = self._provider or exporting_provider()
        if self._provider is None:
            log.error("no traces: OpenTelemetry is not installed", advice="pip install 'graphnode-worker[otel]'")
            return
        from opentelemetry import trace

        self._trace = trace
        self._tracer = self._provider.get_tracer("graphnode")
        subscribe(around=self.around)

    def around(self, step: Step) -> AbstractContextManager[object]:
        """A span of a step, if it is one of a message that is handled, or of the push that follows it."""
        if not self._trace.get_current_span().get_span_context().is_valid:
            return _NO_SPAN
        return self._spanned(step)

    @contextmanager
    def _spanned(self, step: Step) -> Iterator[None]:
        # OpenTelemetry's own record of an error has its text and its stack, which may quote a document.
        with self._tracer.start_as_current_span(step, record_exception=False, set_status_on_exception=False) as span:
            try:
                yield
            except Exception as error:
                span.set_status(self._trace.StatusCode.ERROR, log_text(error))
                raise

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Begin the attempt's span at the message's receipt."""
        if self._provider is None:
            return
        from opentelemetry import context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        assert isinstance(message, Delivery)  # noqa: S101
        carrier = message.options.get(dramatiq_messages.TRACE) or message.attributes
        parent = TraceContextTextMapPropagator().extract(carrier, context=context.Context())
        received_ns = time.time_ns() - int((time.monotonic() - message.received) * 1e9)
        queue = message.queue_url.rpartition("/")[2]
        named = _next_trace_id.set(trace_id_of(message))
        try:
            span = self._tracer.start_span(
                f"process {queue}",
                context=parent,
                kind=self._trace.SpanKind.CONSUMER,
                start_time=received_ns,
                attributes={**described(message, queue=queue), "messaging.operation.type": "process"},
            )
        finally:
            _next_trace_id.reset(named)
        spanned = self._trace.set_span_in_context(span, parent)
        # The message has waited for its thread since the poll.
        self._tracer.start_span(f"receive {queue}", context=spanned, start_time=received_ns).end()
        self._running.span, self._running.token = span, context.attach(spanned)
        message.trace_id = f"{span.get_span_context().trace_id:032x}"
        structlog.contextvars.bind_contextvars(trace_id=message.trace_id)

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """End the span with the verdict."""
        if self._provider is None:
            return
        from opentelemetry import context

        assert isinstance(message, Delivery)  # noqa: S101
        span = self._running.span
        context.detach(self._running.token)
        span.set_attribute("graphnode.verdict", VERDICTS[type(message.verdict)])
        if exception is not None:
            error = classify_error(exception)
            span.set_attribute("error.type", error.reason)
            span.set_status(self._trace.StatusCode.ERROR, error.log_text)
        span.end()

    after_skip_message = after_process_message

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        """Put the trace context into a message of our own."""
        if self._provider is None:
            return
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier)
        if carrier:
            message.options[dramatiq_messages.TRACE] = carrier

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Send the spans that are left."""
        if self._provider is not None:
            self._provider.shutdown()


def described(message: Delivery, *, queue: str) -> dict[str, str | int]:
    """A message's span attributes, named by the conventions; our own begin with `graphnode`."""
    known = message.options.get("log_fields", {})
    own = {f"graphnode.{name}": value for name, value in known.items()}
    conversation = {"messaging.message.conversation_id": known["task_id"]} if "task_id" in known else {}
    return {
        "messaging.system": "aws_sqs",
        "messaging.operation.name": "process",
        "messaging.destination.name": queue,
        "aws.sqs.queue.url": message.queue_url,
        "messaging.message.id": message.sqs_id,
        "messaging.message.body.size": len(message.body.encode()),
        "graphnode.actor": message.actor_name,
        "graphnode.attempt": message.receive_count,
        **own,
        **conversation,
    }


def trace_id_of(message: Delivery) -> int | None:
    """The trace ID of a message without a trace context: computed from its task ID."""
    task_id = message.options.get("log_fields", {}).get("task_id")
    return int.from_bytes(hashlib.blake2b(task_id.encode(), digest_size=16).digest()) if task_id else None


def exporting_provider() -> TracerProvider | None:
    """A provider that exports by OTLP over HTTP, as OTEL_* variables say; None when that is not installed."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError:
        return None
    provider = provider_by_task()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def provider_by_task() -> TracerProvider:
    """A provider whose new traces take the ID that `_next_trace_id` holds."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class ByTask(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            return _next_trace_id.get() or super().generate_trace_id()

    is_named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return TracerProvider(
        id_generator=ByTask(), resource=Resource.create({} if is_named else {"service.name": SERVICE_NAME})
    )
