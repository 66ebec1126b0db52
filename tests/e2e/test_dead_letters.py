"""Dead letters on a real queue: listed, redriven, exported, deleted; none is lost, doubled or left hidden."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner, Result

from graphnode.cli import commands
from graphnode.cli.dead_letters.redrive import follow_move
from graphnode.dev import outcomes, samples
from graphnode.dev.deliver import deliver
from graphnode.dev.local_aws import sqs_client
from graphnode.errors import NoSuchQueue
from graphnode.operations.dead_letters import reader
from graphnode.operations.dead_letters.letter_files import export_letters
from graphnode.operations.dead_letters.letters import LetterFilter, count_by_reason
from graphnode.operations.dead_letters.reader import LetterQueue, LetterReader, find_letters, find_queue, list_letters
from graphnode.operations.dead_letters.redrive import RedriveProgress, redrive_letters
from graphnode.sqs.dead_letter import attributes
from tests.e2e.ai_server import PATIENCE_S, AiServer, found

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

#: Runs `graphnode dlq …` on the test's stack.
Dlq = Callable[..., Result]

#: Bodies that must come back unchanged.
ODD_BODIES = [
    '{"taskType": "X",  "taskId":"ü — 작업"}\n',
    "not JSON \u2028 \U0001f600",
    '{"taskType": ',
    "  ",
    '"\\u0000"',
]

#: The redrive that is killed: it prints its progress after each batch.
TO_BE_KILLED = """
import os, sys
from graphnode.dev.local_aws import sqs_client
from graphnode.operations.dead_letters import reader
from graphnode.operations.dead_letters.letters import LetterFilter
from graphnode.operations.dead_letters.reader import find_queue
from graphnode.operations.dead_letters.redrive import redrive_letters
reader.VISIBILITY_S = 2
sqs = sqs_client(os.environ)
queue = find_queue(sqs, "results", os.environ["SQS_RESULT_QUEUE_URL"])
for done in redrive_letters(sqs, queue, LetterFilter("SERVICE_BUSY")):
    print(done.moved, flush=True)
"""


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """LocalStack has one server: a poll does not wait for others."""
    monkeypatch.setattr(reader, "WAIT_S", 0)


@pytest.fixture
def queue(sqs: SQSClient, stack_env: dict[str, str]) -> LetterQueue:
    """The dead-letter queue of the result queue."""
    return found(find_queue(sqs, "results", stack_env["SQS_RESULT_QUEUE_URL"]), "a dead-letter queue")


@pytest.fixture
def dlq(stack_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Dlq:
    """Runs the command on the test's stack."""
    return command_on(stack_env, monkeypatch)


def command_on(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Dlq:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return lambda *arguments, **options: CliRunner().invoke(commands, ["dlq", *arguments], **options)


class WithFailingWorker:
    """An SQS client, and a worker that makes a dead letter at once of each message sent to the source queue.

    Parameters:
      names_its_message: whether its letters have the ID of the message that failed.
    """

    def __init__(self, sqs: SQSClient, queue: LetterQueue, *, names_its_message: bool) -> None:
        self.sqs, self.queue, self.names_its_message = sqs, queue, names_its_message

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sqs, name)

    def send_message_batch(self, **sent: Any) -> Any:
        answer = self.sqs.send_message_batch(**sent)
        bodies = {entry["Id"]: entry["MessageBody"] for entry in sent["Entries"]}
        for one in answer["Successful"]:
            known = one["MessageId"] if self.names_its_message else None
            put_letters(self.sqs, self.queue, [bodies[one["Id"]]], original_message_id=known)
        return answer


def put_letters(
    sqs: SQSClient,
    queue: LetterQueue,
    bodies: Sequence[str],
    *,
    reason: str = "SERVICE_BUSY",
    hours: float = 0,
    original_message_id: str | None = None,
) -> None:
    """Send letters to the queue as a worker does."""
    since = datetime.now(UTC) - timedelta(hours=hours)
    for start in range(0, len(bodies), 10):
        said = [
            attributes(
                body,
                reason=reason,
                error="busy",
                attempt=8,
                task_id="t",
                task_type="T",
                failed_at=since,
                worker="w:1",
                original_message_id=original_message_id,
            )
            for body in bodies[start : start + 10]
        ]
        entries: Any = [
            {"Id": str(index), "MessageBody": body, "MessageAttributes": said[index]}
            for index, body in enumerate(bodies[start : start + 10])
        ]
        assert len(sqs.send_message_batch(QueueUrl=queue.url, Entries=entries)["Successful"]) == len(entries)


def visible(sqs: SQSClient, url: str) -> list[str]:
    """The bodies of all visible messages."""
    return sorted(letter.body for letter in outcomes.dead_letters(sqs, url))


def groups(sqs: SQSClient, url: str) -> list[str | None]:
    """The message groups of up to ten visible messages, which stay visible."""
    answer = sqs.receive_message(
        QueueUrl=url,
        MaxNumberOfMessages=10,
        VisibilityTimeout=0,
        MessageSystemAttributeNames=["MessageGroupId"],
    )
    return [message.get("Attributes", {}).get("MessageGroupId") for message in answer.get("Messages", [])]


def body_of(number: int, task_type: str = "ADD_NODE_RESULT") -> str:
    return json.dumps({"taskType": task_type, "taskId": f"t-{number}", "payload": {"userId": "ada"}})


def run_redrive(sqs: SQSClient, queue: LetterQueue, wanted: LetterFilter, **options: Any) -> RedriveProgress:
    *_, last = redrive_letters(sqs, queue, wanted, **options)
    return last


def test_a_list_is_complete_and_leaves_every_letter_visible(sqs: SQSClient, queue: LetterQueue) -> None:
    bodies = [body_of(number) for number in range(300)]
    put_letters(sqs, queue, bodies[:200])
    put_letters(sqs, queue, bodies[200:], reason="TIME_LIMIT")

    listing = list_letters(sqs, queue)

    assert count_by_reason(listing.letters) == {"SERVICE_BUSY": 200, "TIME_LIMIT": 100}
    assert {letter.task_id for letter in listing.letters} == {f"t-{number}" for number in range(300)}
    assert (listing.missing, listing.hidden, listing.not_released) == (0, 0, 0)
    assert visible(sqs, queue.url) == sorted(bodies)


def test_visibility_timeouts_are_extended_during_a_long_read(
    sqs: SQSClient, queue: LetterQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_letters(sqs, queue, [body_of(number) for number in range(6)])
    monkeypatch.setattr(reader, "VISIBILITY_S", 2)
    seen = []

    with LetterReader(sqs, queue.url) as slow:
        for letters in slow.batches(most=1):
            seen += [letter.message_id for letter in letters]
            # Six times this is longer than the visibility timeout of two seconds.
            outcomes.wait_for(lambda: None, timeout_s=0.5)
        assert (len(seen), slow.missing) == (6, 0)
        assert len(set(seen)) == 6
        assert visible(sqs, queue.url) == []


def test_a_read_that_is_interrupted_makes_its_letters_visible_at_once(sqs: SQSClient, queue: LetterQueue) -> None:
    put_letters(sqs, queue, ["a", "b"])

    def interrupted(seen: int) -> None:
        if seen:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list_letters(sqs, queue, on_progress=interrupted)

    assert visible(sqs, queue.url) == ["a", "b"]


def test_a_list_says_when_it_may_be_incomplete(sqs: SQSClient, queue: LetterQueue, dlq: Dlq) -> None:
    put_letters(sqs, queue, ["a", "b"])
    sqs.receive_message(QueueUrl=queue.url, MaxNumberOfMessages=1, VisibilityTimeout=60)

    listed = dlq("list", "--queue", "results")
    as_json = json.loads(dlq("list", "--json", "--queue", "results").stdout)

    assert "about 1 letters were in flight elsewhere" in listed.stderr
    assert (as_json[0]["count"], as_json[0]["complete"]) == (1, False)


def test_only_what_matches_is_redriven_byte_for_byte_and_as_a_new_message(sqs: SQSClient, queue: LetterQueue) -> None:
    put_letters(sqs, queue, ODD_BODIES, hours=2)
    put_letters(sqs, queue, ["young"])
    put_letters(sqs, queue, ["other reason"], reason="TIME_LIMIT", hours=2)

    last = run_redrive(sqs, queue, LetterFilter("SERVICE_BUSY", older_than=timedelta(hours=1)))

    assert (last.seen, last.matching, last.moved, last.undeleted) == (7, 5, 5, 0)
    assert visible(sqs, queue.url) == ["other reason", "young"]
    redriven = outcomes.dead_letters(sqs, queue.source_url)
    assert sorted(letter.body for letter in redriven) == sorted(ODD_BODIES)
    assert {tuple(letter.attributes) for letter in redriven} == {()}


def test_a_redrive_by_task_and_type_has_a_limit_and_can_be_dry(sqs: SQSClient, queue: LetterQueue) -> None:
    bodies = [body_of(number % 2, "ADD_NODE_RESULT" if number < 6 else "GRAPH_SUMMARY_RESULT") for number in range(8)]
    put_letters(sqs, queue, bodies)
    wanted = LetterFilter(task_id="t-1", task_type="ADD_NODE_RESULT")

    assert run_redrive(sqs, queue, wanted, dry_run=True).matching == 3
    assert len(visible(sqs, queue.url)) == 8
    assert run_redrive(sqs, queue, wanted, limit=2).moved == 2

    assert visible(sqs, queue.source_url) == [body_of(1)] * 2
    assert Counter(visible(sqs, queue.url))[body_of(1)] == 1


@pytest.mark.parametrize("names_its_message", [True, False], ids=["named", "of-release-0.1.0"])
@pytest.mark.parametrize("wanted", [LetterFilter(), LetterFilter("SERVICE_BUSY")], ids=["all", "by-reason"])
def test_a_message_that_fails_again_at_once_is_redriven_once(
    sqs: SQSClient, queue: LetterQueue, wanted: LetterFilter, names_its_message: bool
) -> None:
    bodies = [body_of(1), body_of(2)]
    put_letters(sqs, queue, bodies)
    client: Any = WithFailingWorker(sqs, queue, names_its_message=names_its_message)

    last = run_redrive(client, queue, wanted)

    assert (last.seen, last.moved, last.missing) == (2, 2, 0)
    # Whether it meets them again depends on when SQS shows them.
    assert last.failed_again <= 2
    assert visible(sqs, queue.source_url) == sorted(bodies)
    assert visible(sqs, queue.url) == sorted(bodies)


def test_two_letters_of_equal_messages_are_both_redriven(sqs: SQSClient, queue: LetterQueue) -> None:
    for message_id in ("m-1", "m-2"):
        put_letters(sqs, queue, [body_of(1)], original_message_id=message_id)

    assert run_redrive(sqs, queue, LetterFilter(), per_second=1).moved == 2


def test_a_rate_is_kept_and_a_stop_ends_between_two_batches(sqs: SQSClient, queue: LetterQueue) -> None:
    put_letters(sqs, queue, [body_of(number) for number in range(12)])
    reports = 0

    def third_report() -> bool:
        nonlocal reports
        reports += 1
        return reports >= 3

    last = run_redrive(sqs, queue, LetterFilter("SERVICE_BUSY"), per_second=2, stopping=third_report)

    assert last.moved in (2, 4)
    assert len(visible(sqs, queue.source_url)) == last.moved
    assert len(visible(sqs, queue.url)) == 12 - last.moved


def test_ctrl_c_ends_a_redrive_and_the_same_command_goes_on(sqs: SQSClient, queue: LetterQueue, dlq: Dlq) -> None:
    bodies = [body_of(number) for number in range(8)]
    put_letters(sqs, queue, bodies)

    def press_ctrl_c() -> None:
        outcomes.wait_for(lambda: not outcomes.is_empty(sqs, queue.source_url) or None, timeout_s=PATIENCE_S)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press_ctrl_c)
    presser.start()
    stopped = dlq("redrive", "--all", "--rate", "1/s", "--queue", "results")
    presser.join()

    assert stopped.exit_code == 130
    assert "The same command goes on" in stopped.stderr
    redriven = visible(sqs, queue.source_url)
    assert 0 < len(redriven) < 8
    assert sorted(redriven + visible(sqs, queue.url)) == sorted(bodies)
    assert dlq("redrive", "--all", "--queue", "results").exit_code == 0
    assert visible(sqs, queue.source_url) == sorted(bodies)


def test_a_redrive_that_is_killed_half_way_and_repeated_loses_nothing(
    sqs: SQSClient, queue: LetterQueue, stack_env: dict[str, str]
) -> None:
    bodies = [body_of(number) for number in range(300)]
    put_letters(sqs, queue, bodies)
    process = subprocess.Popen(
        [sys.executable, "-c", TO_BE_KILLED], env={**os.environ, **stack_env}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    while int(process.stdout.readline()) < 100:
        pass
    process.kill()
    process.communicate()

    def all_moved() -> bool | None:
        run_redrive(sqs, queue, LetterFilter("SERVICE_BUSY"))
        return outcomes.is_empty(sqs, queue.url) or None

    found(outcomes.wait_for(all_moved, timeout_s=PATIENCE_S), "the letters that the killed redrive had hidden")
    redriven = Counter(visible(sqs, queue.source_url))
    assert set(redriven) == set(bodies)
    assert redriven.total() - len(bodies) <= 10


def test_a_crash_between_sending_and_deleting_makes_a_repeat_of_that_batch_alone(
    stack_env: dict[str, str], queue: LetterQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqs = sqs_client(stack_env)
    put_letters(sqs, queue, [body_of(number) for number in range(15)])

    def crash(**_: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(sqs, "delete_message_batch", crash)
        with pytest.raises(SystemExit):
            run_redrive(sqs, queue, LetterFilter("SERVICE_BUSY"))
    run_redrive(sqs, queue, LetterFilter("SERVICE_BUSY"))

    redriven = Counter(visible(sqs, queue.source_url))
    assert set(redriven) == {body_of(number) for number in range(15)}
    assert 0 < redriven.total() - 15 <= 10
    assert visible(sqs, queue.url) == []


def test_what_sqs_refuses_stays_a_letter(
    stack_env: dict[str, str], queue: LetterQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqs = sqs_client(stack_env)
    put_letters(sqs, queue, ["a", "b"])
    send = sqs.send_message_batch

    def take_one(**call: Any) -> Any:
        taken = [entry for entry in call["Entries"] if entry["MessageBody"] == "a"]
        refused = [entry for entry in call["Entries"] if entry["MessageBody"] != "a"]
        answer: Any = send(**{**call, "Entries": taken}) if taken else {"Successful": []}
        return {**answer, "Failed": [{"Id": one["Id"], "Code": "Busy", "SenderFault": False} for one in refused]}

    monkeypatch.setattr(sqs, "send_message_batch", take_one)
    last = run_redrive(sqs, queue, LetterFilter("SERVICE_BUSY"))

    assert (last.moved, last.refused, last.error) == (1, 1, "Busy: SQS says no more")
    assert visible(sqs, queue.source_url) == ["a"]
    assert visible(sqs, queue.url) == ["b"]


def test_a_missing_permission_is_one_line_of_text(
    dlq: Dlq, monkeypatch: pytest.MonkeyPatch, queue: LetterQueue
) -> None:
    def refuse(*_: Any) -> None:
        answer: Any = {"Error": {"Code": "AccessDenied", "Message": "no"}}
        raise ClientError(answer, "GetQueueAttributes")

    monkeypatch.setattr("graphnode.operations.dead_letters.reader.redrive_policy", refuse)

    refused = dlq("list")

    assert refused.exit_code == 1
    assert "AWS refuses GetQueueAttributes" in refused.stderr
    assert "lists the permissions" in refused.stderr


def test_a_queue_that_does_not_exist_is_said_so(
    dlq: Dlq, monkeypatch: pytest.MonkeyPatch, sqs: SQSClient, queue: LetterQueue
) -> None:
    sqs.delete_queue(QueueUrl=queue.url)
    assert str(dlq("list").exception).startswith(f"The queue {queue.arn} does not exist")

    monkeypatch.setenv("SQS_RESULT_QUEUE_URL", f"{queue.source_url}-gone")
    assert str(dlq("list").exception).startswith(f"The queue {queue.source_url}-gone does not exist")


@pytest.mark.parametrize("gone", ["source_url", "url"])
def test_a_queue_that_goes_while_a_delivery_waits_is_said_so(
    sqs: SQSClient, queue: LetterQueue, stack_env: dict[str, str], gone: str
) -> None:
    def delete_queue(line: str) -> None:
        if line.startswith("sent"):
            sqs.delete_queue(QueueUrl=getattr(queue, gone))

    result = samples.result_of(samples.kind_of("progress"), user_id="ada", documents={})

    with pytest.raises(NoSuchQueue, match="does not exist"):
        deliver(result, stack_env, timeout_s=PATIENCE_S, tell=delete_queue)


def test_a_letter_that_sqs_moved_is_explained_and_keeps_its_own_attributes(
    sqs: SQSClient, queue: LetterQueue, dlq: Dlq
) -> None:
    def move_after(receives: int) -> None:
        policy = json.dumps({"deadLetterTargetArn": queue.arn, "maxReceiveCount": receives})
        sqs.set_queue_attributes(QueueUrl=queue.source_url, Attributes={"RedrivePolicy": policy})

    move_after(1)
    good = json.dumps({"taskType": "ADD_NODE_RESULT", "taskId": "t-1", "payload": {"userId": "a", "status": "FAILED"}})
    for body in (good, "{"):
        sqs.send_message(
            QueueUrl=queue.source_url,
            MessageBody=body,
            MessageAttributes={"error": {"DataType": "String", "StringValue": "of the sender"}},
            MessageGroupId="of-the-sender",
        )

    def moved() -> bool | None:
        sqs.receive_message(QueueUrl=queue.source_url, MaxNumberOfMessages=10, VisibilityTimeout=0)
        return outcomes.is_empty(sqs, queue.source_url) or None

    found(outcomes.wait_for(moved, timeout_s=PATIENCE_S), "SQS to move the messages")
    move_after(100)
    listing = list_letters(sqs, queue)

    assert count_by_reason(listing.letters) == {"UNEXPLAINED": 1, "INVALID_ENVELOPE": 1}
    assert "SQS moved it here" in next(one.error for one in listing.letters if one.task_id == "t-1")
    assert "inferred: the letter has no reason" in dlq("show", "t-1", "--queue", "results").stdout
    run_redrive(sqs, queue, LetterFilter("UNEXPLAINED"))
    (redriven,) = outcomes.dead_letters(sqs, queue.source_url)
    assert (redriven.body, redriven.attributes) == (good, {"error": "of the sender"})
    assert groups(sqs, queue.source_url) == ["of-the-sender"]


def test_a_workers_letter_is_put_back_into_its_users_message_group(
    sqs: SQSClient, queue: LetterQueue, dlq: Dlq, tmp_path: Path
) -> None:
    put_letters(sqs, queue, [body_of(1)])
    file = tmp_path / "letters.jsonl"
    dlq("export", str(file), "--queue", "results")
    run_redrive(sqs, queue, LetterFilter("SERVICE_BUSY"))
    dlq("import", str(file), "--to-source")

    assert groups(sqs, queue.source_url) == ["ada", "ada"]


def test_a_move_task_moves_all_letters(sqs: SQSClient, queue: LetterQueue, dlq: Dlq) -> None:
    put_letters(sqs, queue, ["a", "b"])

    moved = dlq("redrive", "--all", "--native", "--queue", "results")

    assert moved.stdout == f"{queue.title}: COMPLETED, 2 moved\n"
    assert visible(sqs, queue.source_url) == ["a", "b"]


def test_ctrl_c_cancels_a_move_task(sqs: SQSClient, queue: LetterQueue, capsys: pytest.CaptureFixture[str]) -> None:
    bodies = [body_of(number) for number in range(20)]
    put_letters(sqs, queue, bodies)

    follow_move(sqs, queue, 1, lambda: True)

    assert "CANCELLED" in capsys.readouterr().out
    assert sorted(visible(sqs, queue.url) + visible(sqs, queue.source_url)) == sorted(bodies)
    assert len(visible(sqs, queue.url)) > 10


def test_letters_in_a_file_come_back_as_they_were(sqs: SQSClient, queue: LetterQueue, dlq: Dlq, tmp_path: Path) -> None:
    put_letters(sqs, queue, ODD_BODIES)
    before = {letter.body: letter.attributes for letter in outcomes.dead_letters(sqs, queue.url)}
    file = tmp_path / "letters.jsonl"

    kept = dlq("export", str(file), "--queue", "results")
    assert f"{queue.title}: 5 read, 5 written" in kept.stdout
    assert len(visible(sqs, queue.url)) == 5
    assert "File exists" in dlq("export", str(file), "--queue", "results").stderr

    emptied = tmp_path / "emptied.jsonl"
    assert "5 written, 5 deleted" in dlq("export", str(emptied), "--delete", "--queue", "results").stdout
    assert visible(sqs, queue.url) == []
    assert emptied.stat().st_mode & 0o777 == 0o600

    assert dlq("import", str(emptied)).exit_code == 0
    assert {letter.body: letter.attributes for letter in outcomes.dead_letters(sqs, queue.url)} == before

    assert "3 letters" in dlq("import", str(emptied), "--to-source", "--skip", "2").stdout
    redriven = outcomes.dead_letters(sqs, queue.source_url)
    assert {letter.body for letter in redriven} < set(ODD_BODIES)
    assert all(letter.attributes == {} for letter in redriven)


def test_no_letter_is_deleted_before_it_is_on_the_disk(
    sqs: SQSClient, queue: LetterQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_letters(sqs, queue, ["a"])

    def full(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with (tmp_path / "letters.jsonl").open("wb") as file, pytest.raises(OSError, match="No space"):
        list(export_letters(sqs, queue, LetterFilter(), file, delete=True))

    assert visible(sqs, queue.url) == ["a"]


def test_a_deleted_letter_leaves_a_row(sqs: SQSClient, queue: LetterQueue, dlq: Dlq, ai: AiServer) -> None:
    put_letters(sqs, queue, [body_of(1), body_of(2)])

    assert dlq("delete", "t-1", "--because", " ", "--yes").exit_code == 2
    assert dlq("delete", "t-1", "--because", "sent twice", input="n\n").exit_code == 1
    assert len(visible(sqs, queue.url)) == 2
    deleted = dlq("delete", "t-1", "--because", "sent twice", "--yes")

    assert deleted.exit_code == 0, deleted.output
    assert visible(sqs, queue.url) == [body_of(2)]
    ((message_id, *recorded),) = ai.rows("SELECT message_id, task_id, user_id, reason, because FROM deleted_letters")
    assert message_id in deleted.stdout
    assert recorded == ["t-1", "ada", "SERVICE_BUSY", "sent twice"]
    assert "No dead letter has the message, task" in str(dlq("show", "t-1").exception)


def test_an_id_with_several_letters_is_deleted_by_message_id_alone(
    sqs: SQSClient, queue: LetterQueue, dlq: Dlq
) -> None:
    put_letters(sqs, queue, [body_of(1), body_of(1)])
    first, second = find_letters(sqs, queue, "t-1")

    ambiguous = dlq("delete", "t-1", "--because", "sent twice", "--yes")

    assert first.message_id in ambiguous.stderr
    assert second.message_id in ambiguous.stderr
    assert dlq("delete", first.message_id, "--because", "sent twice", "--yes").exit_code == 0
    assert [letter.message_id for letter in find_letters(sqs, queue, "t-1")] == [second.message_id]


def test_a_redrive_policy_of_the_dead_letter_queue_is_warned_about(
    sqs: SQSClient, queue: LetterQueue, dlq: Dlq
) -> None:
    policy = json.dumps({"deadLetterTargetArn": queue.source_arn, "maxReceiveCount": 9})
    sqs.set_queue_attributes(QueueUrl=queue.url, Attributes={"RedrivePolicy": policy})

    listed = dlq("list", "--queue", "results")

    assert "has a redrive policy of its own" in listed.stderr
    assert "after 9 receives" in listed.stderr


def test_an_unknown_reason_is_refused_before_anything_is_read(sqs: SQSClient, queue: LetterQueue, dlq: Dlq) -> None:
    put_letters(sqs, queue, ["a"], reason="TIME_LIMIT")

    refused = dlq("redrive", "--reason", "TIME_LIMITS")

    assert refused.exit_code == 2
    assert "'TIME_LIMITS' is unknown. Did you mean TIME_LIMIT?" in refused.stderr
    assert "none with this reason; 1 other" in dlq("list", "--reason", "invalid_envelope", "--queue", "results").stdout
    assert "1 read, 1 redriven" in dlq("redrive", "--reason", "time_limit", "--queue", "results").stdout


def test_a_task_that_has_only_a_dead_letter_is_told_by_it(
    sqs: SQSClient, queue: LetterQueue, dlq: Dlq, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_letters(sqs, queue, [body_of(1)], reason="INVALID_ENVELOPE")

    def task(*words: str) -> Result:
        return CliRunner().invoke(commands, ["task", *words])

    told, as_json = task("t-1"), task("t-1", "--json")
    unknown = task("t-2")
    monkeypatch.delenv("AWS_REGION")
    unread = task("t-1")

    assert told.exit_code == 0
    assert "ADD_NODE_RESULT of ada: not stored" in told.stdout
    assert "dead letter   INVALID_ENVELOPE at attempt 8: busy" in told.stdout
    assert told.stdout.endswith("Look at its dead letter: graphnode dlq show t-1\n")
    assert [one["given_up"] for one in json.loads(as_json.stdout)[0]["attempts"]] == [True]
    assert (unknown.exit_code, unknown.stderr) == (
        1,
        "Task t-2 is unknown: no row, no failed attempt, no dead letter. Is the ID complete?\n",
    )
    assert unread.exit_code == 1
    assert (
        "The dead letters were not read: AWS_REGION is missing. `graphnode dlq show t-1` looks there." in unread.stderr
    )


def test_a_letter_is_shown_with_its_task_and_stack_and_redriven_once_its_document_is_fixed(
    shared_ai: AiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    dlq = command_on(dict(shared_ai.environment), monkeypatch)
    broken = b'{"nodes": [{"id": "a user\'s words"}]}'
    result = shared_ai.send(shared_ai.result("graph", documents={"resultS3Key": broken}))
    (key,) = result.documents
    (fixed,) = (data for name, data in shared_ai.result("graph").documents.items() if name.endswith("graph.json"))
    shared_ai.dead_letters(1)
    shared_ai.wait_until("SELECT 1 FROM task_attempts WHERE given_up")

    shown = dlq("show", result.task_id, "--diagnose").stdout

    assert "INVALID_DOCUMENT" in shown
    assert "have the AI server write it again" in shown
    assert f"is there: {len(broken)} bytes" in shown
    assert "Diagnosis: INVALID_DOCUMENT" in shown
    assert "dead letter   INVALID_DOCUMENT at attempt 1" in shown
    stack = shown.partition("Stack of the last attempt")[2]
    assert "graphnode.actors.graph_generation:" in stack
    assert "a user's words" not in stack

    (as_json,) = json.loads(dlq("show", result.task_id, "--json").stdout)
    assert as_json["body"] == result.body
    ((message_id,),) = shared_ai.rows("SELECT message_id FROM task_attempts WHERE task_id = %(id)s", id=result.task_id)
    assert as_json["facts"]["original_message_id"] == message_id
    assert result.task_id in dlq("show", message_id).stdout
    assert as_json["objects"] == [{"name": f"s3://{shared_ai.bucket}/{key}", "state": as_json["objects"][0]["state"]}]

    shared_ai.s3.put_object(Bucket=shared_ai.bucket, Key=key, Body=fixed)
    assert "nothing is wrong with it" in dlq("show", result.task_id, "--diagnose").stdout
    assert "1 redriven" in dlq("redrive", "--task", result.task_id).stdout
    shared_ai.wait_until(
        "SELECT 1 FROM tasks WHERE task_id = %(id)s AND status = 'COMPLETED' AND error IS NULL", id=result.task_id
    )
    assert shared_ai.rows("SELECT attempt FROM task_attempts WHERE message_id IS NOT NULL AND NOT given_up") == []
