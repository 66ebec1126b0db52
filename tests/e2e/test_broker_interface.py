"""Everything that `SQSBroker` inherits from `dramatiq_sqs` works on real queues."""

from __future__ import annotations

from collections.abc import Iterator

import dramatiq
import pytest
from dramatiq.errors import QueueJoinTimeout

from graphnode.broker import SQSBroker
from graphnode.clients.aws import Aws
from graphnode.sqs.circuit_breaker import CircuitBreaker
from graphnode.sqs.consumer import SQSConsumer
from graphnode.sqs.queues import Options, Queue


@pytest.fixture
def broker(stack_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[SQSBroker]:
    """A broker on a queue for Dramatiq's own messages."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, stack_env[name])
    options = Options(
        queues={"own": Queue(url=stack_env["SQS_REQUEST_QUEUE_URL"])},
        aws=Aws.of_environment(stack_env),
    )
    broker = SQSBroker(lambda: options, breaker=CircuitBreaker({}), middleware=[])
    broker.declare_queue("own")
    yield broker
    broker.flush_all()
    broker.close()


def test_join_returns_when_a_queue_is_empty_and_gives_up_at_its_timeout(broker: SQSBroker) -> None:
    broker.join("own", timeout=5)
    broker.enqueue(
        dramatiq.Message(queue_name="own", actor_name="any", args=(), kwargs={}, options={}, message_id="m-1")
    )

    with pytest.raises(QueueJoinTimeout):
        broker.join("own", timeout=1)
    broker.flush("own")
    broker.join("own", timeout=5)


def test_each_attribute_of_the_parent_can_be_read(broker: SQSBroker) -> None:
    broker.connect(threads=1)

    assert broker.queues["own"].url == broker.options.queues["own"].url
    assert broker.dead_letter_queues["own"].url == broker.dead_letters("own").url
    assert broker.consumer_class is SQSConsumer
    assert broker.get_declared_queues() == {"own"}
    assert broker.get_declared_delay_queues() == set()
    assert (broker.visibility_timeout, broker.max_message_size) == (60, 1024 * 1024)
    assert (broker.namespace, broker.tags, broker.dead_letter) == (None, None, True)
    assert broker.retention == broker.dead_letter_retention == 14 * 86400
    assert broker.sqs.meta.client.meta.region_name == broker.options.aws.region


def test_no_attribute_of_the_parent_is_missing(
    broker: SQSBroker, stack_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import dramatiq_sqs

    monkeypatch.setenv("AWS_DEFAULT_REGION", stack_env["AWS_REGION"])
    parent = dramatiq_sqs.SQSBroker(middleware=[])
    names = {name for name in dir(parent) if not name.startswith("_")}

    # Only a broker with a results middleware has a results backend.
    assert [name for name in names - {"get_results_backend"} if not hasattr(broker, name)] == []


def test_an_undeclared_queue_is_not_created(broker: SQSBroker) -> None:
    with pytest.raises(dramatiq.QueueNotFound):
        broker.consume("other")
    with pytest.raises(dramatiq.QueueNotFound):
        broker.flush("other")
