"""The queues: do they exist, keep messages long enough, and have a dead-letter queue?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from botocore.exceptions import ClientError

from graphnode.errors import is_missing_queue
from graphnode.operations.doctor.aws_answers import code_of, is_denied, judge_refusal, queue_arn
from graphnode.operations.doctor.findings import Finding, broken, command, fine, statement, unchecked, warning
from graphnode.sqs.queues import LARGEST_MESSAGE_BYTES, SAFE_REDRIVE, queue_url

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

#: SQS's longest and its default retention of messages, in seconds.
LONGEST_RETENTION_S = 14 * 86_400
DEFAULT_RETENTION_S = 4 * 86_400

#: Seconds of retention below which an outage of one night loses messages.
SHORT_RETENTION_S = 86_400

#: Seconds of a queue's own visibility timeout above which a look at it by hand delays messages too long.
LONG_VISIBILITY_S = 3600

#: What a worker does with the queues that it reads, that it writes to, and with their dead-letter queues.
CONSUMER_ACTIONS = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes")
SENDER_ACTIONS = ("sqs:SendMessage",)
DEAD_LETTER_ACTIONS = ("sqs:SendMessage", "sqs:GetQueueUrl", "sqs:GetQueueAttributes")

#: SQS accepts none of these as a receipt handle, body or delay: nothing is deleted, hidden or sent.
NO_RECEIPT = "graphnode-doctor"
NO_BODY = "\0"
NO_DELAY_S = -1


class QueueInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A queue, by the attributes that GetQueueAttributes gives."""

    arn: str
    url: str = ""
    attributes: Mapping[str, str] = {}

    @property
    def name(self) -> str:
        """The queue's name."""
        return _name(self.arn)

    @property
    def is_fifo(self) -> bool:
        """Whether it is a FIFO queue."""
        return self.arn.endswith(".fifo")

    @property
    def retention_s(self) -> int:
        """Seconds for which SQS keeps a message."""
        return self.number("MessageRetentionPeriod", DEFAULT_RETENTION_S)

    @property
    def redrive_policy(self) -> dict[str, Any]:
        """The redrive policy; empty without one."""
        policy: dict[str, Any] = msgspec.json.decode(self.attributes.get("RedrivePolicy") or "{}")
        return policy

    def number(self, attribute: str, default: int) -> int:
        """An attribute that is a number."""
        return int(self.attributes.get(attribute, default))


class RedriveTarget(QueueInfo, frozen=True, kw_only=True):
    """The dead-letter queue that a redrive policy names. Without a URL it does not exist, or access is denied."""

    is_denied: bool = False


class SourceQueue(QueueInfo, frozen=True, kw_only=True):
    """What SQS says about a queue and its dead-letter queue.

    Parameters:
      subject: its name in the report.
      tried, denied: the actions that were tried, and those of them that are not allowed.
      dead_letters_denied: the actions that are not allowed on the dead-letter queue.
    """

    subject: str
    dead_letters: RedriveTarget | None = None
    tried: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    dead_letters_denied: tuple[str, ...] = ()


def check_queue(
    sqs: SQSClient, subject: str, url: str, *, region: str, actions: tuple[str, ...], max_attempts: int
) -> list[Finding]:
    """Findings on a queue and its dead-letter queue, after trying what a worker does with them.

    Parameters:
      actions: what the worker does with the queue.
      max_attempts: failures after which a worker makes a message a dead letter.
    """
    arn = queue_arn(url, region=region)
    try:
        source = read_queue(sqs, subject, url, arn=arn, actions=actions)
    except Exception as error:
        return [judge_missing_queue(subject, url, arn, error, max_attempts=max_attempts)]
    return judge_queue(source, max_attempts=max_attempts)


def check_request_queue(sqs: SQSClient, subject: str, url: str, *, region: str, max_attempts: int) -> list[Finding]:
    """Findings on the AI server's queue: does it exist? A worker does not use it, so it needs no rights on it."""
    arn = queue_arn(url, region=region)
    try:
        answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    except ClientError as error:
        if is_denied(error):
            return [unchecked(subject, "not checked: this identity may not look at it, and a worker does not need to")]
        return [judge_missing_queue(subject, url, arn, error, max_attempts=max_attempts)]
    except Exception as error:
        return [judge_missing_queue(subject, url, arn, error, max_attempts=max_attempts)]
    waiting = answer["Attributes"].get("ApproximateNumberOfMessages", "0")
    return [fine(subject, f"{_name(arn)}, {waiting} waiting for the AI server")]


def read_queue(sqs: SQSClient, subject: str, url: str, *, arn: str, actions: tuple[str, ...]) -> SourceQueue:
    """What SQS says about a queue. Raises botocore's errors if it does not give the queue's attributes."""
    attributes = _attributes(sqs, url)
    dead = _read_dead_letters(sqs, attributes)
    return SourceQueue(
        subject=subject,
        url=url,
        arn=attributes.get("QueueArn", arn),
        attributes=attributes,
        dead_letters=dead,
        tried=actions,
        denied=_denied(sqs, actions, url),
        dead_letters_denied=_denied(sqs, SENDER_ACTIONS, dead.url) if dead and dead.url else (),
    )


def judge_missing_queue(subject: str, url: str, arn: str, error: Exception, *, max_attempts: int) -> Finding:
    """Why SQS did not give a queue's attributes."""
    if refusal := judge_refusal(subject, error, actions=["sqs:GetQueueAttributes"], resource=arn):
        return refusal
    if is_missing_queue(error):
        return broken(
            subject,
            f"the queue {_name(arn)} does not exist",
            why=f"{url}: a wrong name, account or region; or it was deleted.",
            mend=_create(arn, most_receives=SAFE_REDRIVE * max_attempts),
        )
    if isinstance(error, ClientError) and code_of(error) == "InvalidAddress":
        return broken(
            subject,
            f"{url} is not the URL of an SQS queue",
            mend=command("aws", "sqs", "get-queue-url", "--queue-name", _name(arn)),
        )
    raise error


def judge_queue(source: SourceQueue, *, max_attempts: int) -> list[Finding]:
    """Findings on a queue, the worker's rights and the dead-letter queue, from what SQS says about them."""
    return [
        _judge_itself(source, max_attempts=max_attempts),
        _judge_rights(source),
        *_judge_dead_letters(source, max_attempts=max_attempts),
    ]


def _judge_itself(source: SourceQueue, *, max_attempts: int) -> Finding:
    name, visibility = source.name, source.number("VisibilityTimeout", 30)
    if source.is_fifo:
        return broken(
            source.subject,
            f"{name} is a FIFO queue",
            why="The worker retries single messages by their visibility: a FIFO queue would hold up the others.",
            mend=_create(source.arn.removesuffix(".fifo"), most_receives=SAFE_REDRIVE * max_attempts),
        )
    if source.retention_s < SHORT_RETENTION_S:
        return warning(
            source.subject,
            f"{name} keeps messages for {_days(source.retention_s)} only",
            why="SQS deletes older messages silently: an outage that lasts longer loses results.",
            mend=_set_attributes(source.url, MessageRetentionPeriod=str(DEFAULT_RETENTION_S)),
        )
    if visibility > LONG_VISIBILITY_S:
        return warning(
            source.subject,
            f"{name} hides a received message for {_days(visibility)}",
            why="The worker sets its own time; what others receive, such as a console, is hidden for so long.",
            mend=_set_attributes(source.url, VisibilityTimeout="60"),
        )
    return fine(source.subject, f"{name}: visibility {visibility} s, kept {_days(source.retention_s)}")


def _judge_rights(source: SourceQueue) -> Finding:
    subject = f"{source.subject.removesuffix(' queue')} rights"
    if source.denied:
        return broken(
            subject,
            f"not allowed: {', '.join(source.denied)}",
            why="The worker's role lacks it, or the queue's own policy denies it.",
            mend=statement(source.denied, source.arn),
        )
    return fine(subject, f"{len(source.tried)} actions tried, none denied")


def _judge_dead_letters(source: SourceQueue, *, max_attempts: int) -> list[Finding]:
    subject = f"{source.subject.removesuffix(' queue')} DLQ"
    wanted = SAFE_REDRIVE * max_attempts
    dead = source.dead_letters
    if dead is None or not dead.url or dead.arn == source.arn or dead.is_fifo:
        return [_judge_unusable_dead_letters(source, subject, wanted=wanted)]
    found = [judge(source, dead, subject) for judge in (_judge_retention, _judge_onward, _judge_allowed, _judge_size)]
    receives = int(source.redrive_policy["maxReceiveCount"])
    if receives < wanted:
        found.append(
            warning(
                subject,
                f"{source.name} moves a message after {receives} receives, the worker gives up after {max_attempts}"
                " failures",
                why="Stops and outages use up receives too: messages become dead letters without a reason.",
                mend=_redrive(source.url, dead.arn, wanted),
            )
        )
    if source.dead_letters_denied:
        found.append(
            broken(
                subject,
                f"not allowed: {', '.join(source.dead_letters_denied)} to {dead.name}",
                why="A message that cannot be handled stays on its queue, and is tried again and again.",
                mend=statement(DEAD_LETTER_ACTIONS, dead.arn),
            )
        )
    waiting = dead.number("ApproximateNumberOfMessages", 0)
    healthy = fine(subject, f"{dead.name}: kept {_days(dead.retention_s)}, {waiting} dead letters")
    return [finding for finding in found if finding] or [healthy]


def _judge_unusable_dead_letters(source: SourceQueue, subject: str, *, wanted: int) -> Finding:
    dead = source.dead_letters
    if dead is None:
        return broken(
            subject,
            f"{source.name} has no redrive policy, and so no dead-letter queue",
            why="The worker does not start: a message that it cannot handle would have nowhere to go.",
            mend=_create_dead_letters(source, wanted),
        )
    if dead.arn == source.arn:
        return broken(
            subject,
            f"{source.name} is its own dead-letter queue",
            why="The worker does not start: a message that it cannot handle would come back for ever.",
            mend=_create_dead_letters(source, wanted),
        )
    if dead.is_fifo:
        return broken(
            subject,
            f"the dead-letter queue {dead.name} is a FIFO queue",
            why="The worker does not start: a FIFO queue takes no dead letters of a standard queue.",
            mend=_create_dead_letters(source, wanted, arn=dead.arn.removesuffix(".fifo")),
        )
    if dead.is_denied:
        return broken(
            subject,
            f"not allowed to look at {dead.name}",
            why="The worker does not start without its dead-letter queue's URL and limits.",
            mend=statement(DEAD_LETTER_ACTIONS, dead.arn),
        )
    return broken(
        subject,
        f"the dead-letter queue {dead.name} does not exist",
        why=f"The redrive policy of {source.name} names it: nothing can be sent there.",
        mend=_create_queue(dead.name, MessageRetentionPeriod=str(LONGEST_RETENTION_S)),
    )


def _judge_retention(source: SourceQueue, dead: RedriveTarget, subject: str) -> Finding | None:
    """A message that SQS itself moves keeps its age, so it may be deleted as soon as it arrives.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html
    """
    if dead.retention_s > source.retention_s:
        return None
    mend = _set_attributes(dead.url, MessageRetentionPeriod=str(LONGEST_RETENTION_S))
    if source.retention_s >= LONGEST_RETENTION_S:
        mend = _set_attributes(source.url, MessageRetentionPeriod=str(DEFAULT_RETENTION_S))
    return warning(
        subject,
        f"{dead.name} keeps messages for {_days(dead.retention_s)}, its source for {_days(source.retention_s)}",
        why="A message that SQS moves there keeps its age: it can be gone before anybody has seen it.",
        mend=mend,
    )


def _judge_onward(_source: SourceQueue, dead: RedriveTarget, subject: str) -> Finding | None:
    if not dead.redrive_policy:
        return None
    onward = _name(dead.redrive_policy["deadLetterTargetArn"])
    return warning(
        subject,
        f"{dead.name} has a redrive policy of its own, to {onward}",
        why="A dead letter that is received a few times moves on, to where nobody looks for it.",
        mend=_set_attributes(dead.url, RedrivePolicy=""),
    )


def _judge_allowed(source: SourceQueue, dead: RedriveTarget, subject: str) -> Finding | None:
    policy = msgspec.json.decode(dead.attributes.get("RedriveAllowPolicy") or "{}")
    permission = policy.get("redrivePermission", "allowAll")
    if permission == "allowAll" or (permission == "byQueue" and source.arn in policy.get("sourceQueueArns", [])):
        return None
    return warning(
        subject,
        f"{dead.name} takes nothing from {source.name} (RedriveAllowPolicy: {permission})",
        why="SQS cannot move a poison message there, which kills its worker again and again.",
        mend=_set_attributes(
            dead.url,
            RedriveAllowPolicy=_json({"redrivePermission": "byQueue", "sourceQueueArns": [source.arn]}),
        ),
    )


def _judge_size(source: SourceQueue, dead: RedriveTarget, subject: str) -> Finding | None:
    largest = source.number("MaximumMessageSize", LARGEST_MESSAGE_BYTES)
    if dead.number("MaximumMessageSize", LARGEST_MESSAGE_BYTES) >= largest:
        return None
    return warning(
        subject,
        f"{dead.name} takes smaller messages than its source",
        why="A large message that cannot be handled could not be sent there.",
        mend=_set_attributes(dead.url, MaximumMessageSize=str(largest)),
    )


def _read_dead_letters(sqs: SQSClient, attributes: Mapping[str, str]) -> RedriveTarget | None:
    if "RedrivePolicy" not in attributes:
        return None
    arn: str = msgspec.json.decode(attributes["RedrivePolicy"])["deadLetterTargetArn"]
    try:
        url = queue_url(sqs, arn)
        known = _attributes(sqs, url)
    except ClientError as error:
        return RedriveTarget(arn=arn, is_denied=is_denied(error))
    return RedriveTarget(arn=arn, url=url, attributes=known)


def _attributes(sqs: SQSClient, url: str) -> dict[str, str]:
    answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    return {str(name): value for name, value in answer["Attributes"].items()}


def _denied(sqs: SQSClient, actions: Iterable[str], url: str) -> tuple[str, ...]:
    """The denied ones of these actions. Trying them changes nothing: all calls but the receive are invalid.

    The receive returns its message at once; it counts as one of the message's receives.
    """
    trials: dict[str, Callable[[], Any]] = {
        "sqs:ReceiveMessage": lambda: sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=1, VisibilityTimeout=0, WaitTimeSeconds=0
        ),
        "sqs:DeleteMessage": lambda: sqs.delete_message(QueueUrl=url, ReceiptHandle=NO_RECEIPT),
        "sqs:ChangeMessageVisibility": lambda: sqs.change_message_visibility(
            QueueUrl=url, ReceiptHandle=NO_RECEIPT, VisibilityTimeout=0
        ),
        "sqs:SendMessage": lambda: sqs.send_message(QueueUrl=url, MessageBody=NO_BODY, DelaySeconds=NO_DELAY_S),
        "sqs:GetQueueAttributes": lambda: None,
    }
    denied = []
    for action in actions:
        try:
            trials[action]()
        except ClientError as error:
            if is_denied(error):
                denied.append(action)
    return tuple(denied)


def _create(arn: str, *, most_receives: int) -> str:
    """The commands that make a queue: first its dead-letter queue, without which a worker does not start."""
    dead = _create_queue(f"{_name(arn)}-dlq", MessageRetentionPeriod=str(LONGEST_RETENTION_S))
    return f"{dead}\n{_create_queue(_name(arn), RedrivePolicy=_redrive_policy(f'{arn}-dlq', most_receives))}"


def _create_dead_letters(source: SourceQueue, most_receives: int, *, arn: str | None = None) -> str:
    """The commands that give a queue a dead-letter queue."""
    arn = arn or f"{source.arn}-dlq"
    dead = _create_queue(_name(arn), MessageRetentionPeriod=str(LONGEST_RETENTION_S))
    return f"{dead}\n{_redrive(source.url, arn, most_receives)}"


def _redrive(url: str, dead_letters_arn: str, most_receives: int) -> str:
    return _set_attributes(url, RedrivePolicy=_redrive_policy(dead_letters_arn, most_receives))


def _redrive_policy(dead_letters_arn: str, most_receives: int) -> str:
    return _json({"deadLetterTargetArn": dead_letters_arn, "maxReceiveCount": str(most_receives)})


def _create_queue(name: str, **attributes: str) -> str:
    return command("aws", "sqs", "create-queue", "--queue-name", name, "--attributes", _json(attributes))


def _set_attributes(url: str, **attributes: str) -> str:
    return command("aws", "sqs", "set-queue-attributes", "--queue-url", url, "--attributes", _json(attributes))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _name(arn: str) -> str:
    return arn.rpartition(":")[2]


def _days(seconds: int) -> str:
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = seconds / length
            return f"{count:.3g} {unit}{'s' if count != 1 else ''}"
    return f"{seconds} seconds"
