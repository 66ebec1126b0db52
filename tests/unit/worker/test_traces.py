from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from graphnode.broker import SQSBroker
from graphnode.clients.aws import Aws
from graphnode.errors import InvalidDocument
from graphnode.sqs.circuit_breaker import CircuitBreaker
from graphnode.sqs.deliveries import Delivery
from graphnode.sqs.queues import Options
from graphnode.sqs.verdicts import Ack, DeadLetter
from graphnode.steps import step, subscribed
from graphnode.worker import traces as module
from graphnode.worker.traces import Traces, are_wanted, provider_by_task
from tests.unit.conftest import MakeDelivery

#: A producer's sampled span, from the examples of https://www.w3.org/TR/trace-context/, and the same one unsampled.
PRODUCER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traces(spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> Iterator[Traces]:
    monkeypatch.setattr(module, "subscribe", lambda **_: None)
    provider = provider_by_task()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    made = Traces(provider)
    made.after_process_boot(
        SQSBroker(lambda: Options(queues={}, aws=Aws(region="eu")), breaker=CircuitBreaker({}), middleware=[])
    )
    with subscribed(around=made.around):
        yield made
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def result(make_delivery: MakeDelivery) -> Callable[..., Delivery]:
    """Makes deliveries of a task's result."""

    def make(task_id: str = "task-7", **changes: Any) -> Delivery:
        delivery = make_delivery(**changes)
        message: dramatiq.Message[Any] = delivery._message
        message.options["log_fields"] = {"task_id": task_id, "task_type": "ADD_NODE_RESULT", "user_id": "ada"}
        return delivery

    return make


def handle(traces: Traces, delivery: Delivery, *, error: Exception | None = None) -> None:
    """Handle a message as a worker thread does, in two steps."""
    broker: Any = None
    traces.before_process_message(broker, delivery)
    with step("transaction"), step("commit"):
        pass
    delivery.verdict = Ack() if error is None else DeadLetter("INVALID_DOCUMENT", str(error), 1)
    traces.after_process_message(broker, delivery, exception=error)


def root_of(found: tuple[ReadableSpan, ...]) -> ReadableSpan:
    (root,) = [span for span in found if span.name.startswith("process")]
    return root


def test_an_attempt_is_a_span_that_begins_at_its_receipt_and_contains_its_steps(
    traces: Traces, spans: InMemorySpanExporter, result: Callable[..., Delivery]
) -> None:
    delivery = result()

    handle(traces, delivery)

    found = spans.get_finished_spans()
    by_name = {span.name: span for span in found}
    root = root_of(found)
    assert by_name.keys() == {"receive results", "transaction", "commit", "process results"}
    assert root.parent is None
    assert root.kind is SpanKind.CONSUMER
    for name, parent in (("receive results", root), ("transaction", root), ("commit", by_name["transaction"])):
        assert by_name[name].parent == parent.context
    assert by_name["receive results"].start_time == root.start_time
    assert root.attributes
    assert root.attributes["messaging.system"] == "aws_sqs"
    assert root.attributes["messaging.destination.name"] == "results"
    assert root.attributes["messaging.message.id"] == delivery.message_id
    assert root.attributes["messaging.message.conversation_id"] == root.attributes["graphnode.task_id"] == "task-7"
    assert root.attributes["graphnode.verdict"] == "done"


def test_an_attempt_continues_the_producers_trace(
    traces: Traces, spans: InMemorySpanExporter, result: Callable[..., Delivery]
) -> None:
    delivery = result(attributes={"traceparent": PRODUCER})

    handle(traces, delivery)

    root = root_of(spans.get_finished_spans())
    assert root.parent
    assert f"00-{root.parent.trace_id:032x}-{root.parent.span_id:016x}-01" == PRODUCER
    assert delivery.trace_id == PRODUCER.split("-")[1]


def test_a_message_that_its_producer_does_not_sample_makes_no_spans(
    traces: Traces, spans: InMemorySpanExporter, result: Callable[..., Delivery]
) -> None:
    handle(traces, result(attributes={"traceparent": UNSAMPLED}))

    assert spans.get_finished_spans() == ()


def test_messages_share_a_trace_if_they_share_a_task(traces: Traces, result: Callable[..., Delivery]) -> None:
    first, again, other = result(), result(), result("task-8")
    for delivery in (first, again, other):
        handle(traces, delivery)

    assert first.trace_id == again.trace_id != other.trace_id


def test_a_push_continues_the_trace_of_its_result(
    traces: Traces, spans: InMemorySpanExporter, result: Callable[..., Delivery], make_delivery: MakeDelivery
) -> None:
    broker: Any = None
    delivery, push = result(), make_delivery()
    traces.before_process_message(broker, delivery)
    traces.before_enqueue(broker, push._message, None)
    traces.after_process_message(broker, delivery)

    handle(traces, push)

    assert push.trace_id == delivery.trace_id
    traces.before_enqueue(broker, swept := make_delivery()._message, None)
    assert "trace" not in swept.options


def test_log_lines_carry_the_trace_id(traces: Traces, result: Callable[..., Delivery]) -> None:
    delivery = result()
    traces.before_process_message(None, delivery)  # type: ignore[arg-type]

    assert structlog.contextvars.get_contextvars()["trace_id"] == delivery.trace_id

    traces.after_process_message(None, delivery)  # type: ignore[arg-type]


def test_the_span_of_a_failed_attempt_carries_the_reason(
    traces: Traces, spans: InMemorySpanExporter, result: Callable[..., Delivery]
) -> None:
    handle(traces, result(), error=InvalidDocument("nodes[3].id: expected int"))

    root = root_of(spans.get_finished_spans())
    assert root.status.status_code is StatusCode.ERROR
    assert root.attributes
    assert root.attributes["error.type"] == "INVALID_DOCUMENT"
    assert root.attributes["graphnode.verdict"] == "dead"


def test_the_span_of_a_failed_step_is_an_error_without_the_errors_text(
    traces: Traces, spans: InMemorySpanExporter, result: Callable[..., Delivery]
) -> None:
    delivery = result()
    traces.before_process_message(None, delivery)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError), step("store"):
        raise RuntimeError("her diary says")
    traces.after_process_message(None, delivery, exception=RuntimeError("her diary says"))  # type: ignore[arg-type]

    failed = [span for span in spans.get_finished_spans() if span.status.status_code is StatusCode.ERROR]
    assert {span.name for span in failed} == {"store", "process results"}
    assert not any("diary" in span.to_json() for span in failed)


def test_steps_outside_a_message_make_no_spans(traces: Traces, spans: InMemorySpanExporter) -> None:
    with step("extend"):
        pass

    assert spans.get_finished_spans() == ()


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_traces_are_made_when_opentelemetrys_variables_ask_for_them(environment: dict[str, str], wanted: bool) -> None:
    assert are_wanted(environment) is wanted
