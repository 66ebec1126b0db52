"""The catalogue of mutants: each breaks one promise of the worker by a small change at one place in its source.

A mutant finds its place by the source text there. When the source changes, it raises OutdatedMutant: rewrite it, or
delete it if the promise no longer exists. Its checks are the cheapest that should catch it. If it survives them, all
tests in their directories are tried.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path


class OutdatedMutant(Exception):
    """The source has changed: rewrite this mutant in tests/mutants/catalogue.py."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A change of the source that breaks a promise.

    Parameters:
      name: a few words.
      what: the worker's wrong behaviour.
      file: a path from the root of the repository.
      old: the text to replace; it occurs once in the file.
      new: the replacement.
      checks: the node IDs or files that pytest tries first.
      hangs: why a test that does not end catches this mutant; empty if it does not.
    """

    name: str
    what: str
    file: str
    old: str
    new: str
    checks: tuple[str, ...]
    hangs: str = ""

    @property
    def wider_checks(self) -> list[str]:
        """The directories of the checks."""
        return sorted({str(Path(check.partition("::")[0]).parent) for check in self.checks})

    def mutated(self, root: Path) -> str:
        """The text of the file with the mutation. Raises OutdatedMutant unless `old` occurs once in it."""
        text = (root / self.file).read_text(encoding="utf-8")
        if (times := text.count(self.old)) != 1:
            found = f"occurs {times} times" if times else "is missing"
            raise OutdatedMutant(f"{self.name}: the text {found} in {self.file}:\n{self.old}")
        changed = text.replace(self.old, self.new)
        try:
            compile(changed, self.file, "exec")
        except SyntaxError as error:
            raise OutdatedMutant(f"{self.name}: the changed {self.file} is not valid Python: {error}") from None
        return changed

    def apply(self, root: Path) -> None:
        """Change the file in a copy of the repository."""
        (root / self.file).write_text(self.mutated(root), encoding="utf-8")


ANY_ORDER = "tests/any_order/test_any_order.py"

CHAOS = "tests/e2e/test_chaos.py"

MIGRATION_LOCKS = "tests/integration/test_migration_locks.py"

#: The mutants that the short chaos run must catch as well.
SEEN_BY_CHAOS = ("delete-before-commit",)

MUTANTS = (
    # Settlement: when a message is deleted, and when it is retried.
    Mutant(
        name="delete-before-commit",
        what="a message is deleted when it is received, not after its transaction has committed",
        file="graphnode/sqs/consumer.py",
        old="if delivery and self._may_start(delivery):\n            return delivery\n",
        new="if delivery and self._may_start(delivery):\n            self.settlement.settle(delivery, Ack())\n"
        "            return delivery\n",
        checks=(
            "tests/faults/test_settling.py::test_a_transient_error_returns_the_message_by_its_visibility_timeout",
            "tests/faults/test_stopping.py::test_an_actor_that_outlasts_the_shutdown_timeout_is_interrupted_and_its_message_goes_back",
        ),
    ),
    Mutant(
        name="acknowledge-on-failure",
        what="a message whose handler failed is deleted, as if the handler had returned",
        file="graphnode/worker/middleware.py",
        old="        message.verdict = policy.decide(error, attempt=attempt, parks=message.parks)\n",
        new="        message.verdict = Ack()\n",
        checks=("tests/unit/worker/test_middleware.py",),
    ),
    Mutant(
        name="undecided-is-done",
        what="a message that has no verdict, because a middleware failed, is deleted",
        file="graphnode/sqs/consumer.py",
        old="verdict = message.verdict or Retry(UNDECIDED_BACKOFF_S)",
        new="verdict = message.verdict or Ack()",
        checks=("tests/faults/test_settling.py::test_a_fault_in_a_middleware_does_not_delete_a_message_that_failed",),
    ),
    Mutant(
        name="failed-deletion-forgotten",
        what="an entry that SQS failed to delete counts as deleted",
        file="graphnode/sqs/settlement.py",
        old="            if failure is None:\n                self.in_flight.remove(delivery)\n",
        new="            if True:\n                self.in_flight.remove(delivery)\n",
        checks=("tests/unit/sqs/test_settlement.py",),
    ),
    Mutant(
        name="acknowledgements-lost-at-stop",
        what="a worker that stops does not send the deletions that wait in its memory",
        file="graphnode/sqs/consumer.py",
        old="        self.letters.close()\n        self.settlement.close()\n",
        new="        self.letters.close()\n",
        checks=("tests/faults/test_settling.py::test_no_verdict_is_left_in_memory_when_the_worker_has_stopped",),
    ),
    Mutant(
        name="lost-message-settled",
        what="a message that another worker has received meanwhile is given back or dead-lettered all the same",
        file="graphnode/sqs/consumer.py",
        old="if message.lost and not isinstance(verdict, Ack):",
        new="if False:",
        checks=(
            "tests/faults/test_keeping_alive.py::test_a_running_message_that_is_lost_and_then_fails_is_left_to_the_other_worker",
        ),
    ),
    # Lanes.
    Mutant(
        name="two-of-a-lane",
        what="two messages of one user run at the same time",
        file="graphnode/sqs/deliveries.py",
        old="if lane.is_ready or lane.running or not lane.waiting",
        new="if lane.is_ready or not lane.waiting",
        checks=("tests/unit/sqs/test_deliveries.py",),
    ),
    Mutant(
        name="lane-without-bound",
        what="a user's backlog fills the process, so that no other user's message is received",
        file="graphnode/sqs/deliveries.py",
        old="if is_behind and (is_crowded or not lane.has_room(delivery.receive_count)):",
        new="if False:",
        checks=("tests/unit/sqs/test_deliveries.py", "tests/faults/test_lanes.py"),
    ),
    Mutant(
        name="short-deferrals",
        what="what exceeds a lane comes back at once, again and again, until native redrive takes it",
        file="graphnode/sqs/lanes.py",
        old="return max(1, min(LONGEST_DEFERRAL_S, math.ceil(wait_s)))",
        new="return 1",
        checks=("tests/unit/sqs/test_lanes.py",),
    ),
    Mutant(
        name="waiting-is-failing",
        what="a message that waits for its user's lock uses up an attempt each time",
        file="graphnode/errors.py",
        old="class UserLocked(Postponed):",
        new="class UserLocked(TransientError):",
        checks=("tests/unit/worker/test_middleware.py", "tests/faults/test_lanes.py"),
    ),
    Mutant(
        name="lane-overtaken",
        what="a parked message lets the next one of its user pass",
        file="graphnode/sqs/deliveries.py",
        old="            lane.waiting.appendleft(delivery)\n",
        new="            lane.waiting.append(delivery)\n",
        checks=("tests/unit/sqs/test_deliveries.py",),
    ),
    Mutant(
        name="locked-user-keeps-memory",
        what="a message that waits for its user's lock keeps the memory that others' big documents wait for",
        file="graphnode/worker/middleware.py",
        old="if message.verdict != Park(math.inf):",
        new="if not isinstance(message.verdict, Park):",
        checks=("tests/unit/worker/test_middleware.py",),
    ),
    Mutant(
        name="trapped-behind-slow-ones",
        what="messages that were fetched ahead wait behind slow ones while another machine is idle",
        file="graphnode/sqs/consumer.py",
        old="if time.monotonic() >= self._next_look:",
        new="if False:",
        checks=("tests/faults/test_lanes.py::test_messages_behind_slow_ones_go_to_an_idle_machine",),
    ),
    Mutant(
        name="passed-on-for-ever",
        what="a message that no thread takes is given back again and again",
        file="graphnode/sqs/deliveries.py",
        old="    if delivery.receive_count > 1:\n        return False\n",
        new="",
        checks=("tests/unit/sqs/test_deliveries.py",),
    ),
    # Dead letters.
    Mutant(
        name="no-letter",
        what="a poison message is deleted without a dead letter",
        file="graphnode/sqs/letter_sender.py",
        old="                self._put(delivery, dead)\n",
        new="                pass\n",
        checks=("tests/unit/sqs/test_letter_sender.py",),
    ),
    Mutant(
        name="letter-not-sent-ignored",
        what="a message is deleted even though its dead letter could not be sent",
        file="graphnode/sqs/letter_sender.py",
        old="settle(delivery, Retry(self.retry.backoff_of_refused(delivery.receive_count)))",
        new="settle(delivery, Ack())",
        checks=("tests/unit/sqs/test_letter_sender.py",),
    ),
    Mutant(
        name="letter-and-message",
        what="the message of a dead letter stays on its queue",
        file="graphnode/sqs/letter_sender.py",
        old="settle(delivery, Ack())",
        new="settle(delivery, Nack())",
        checks=("tests/unit/sqs/test_letter_sender.py",),
    ),
    Mutant(
        name="letter-trimmed",
        what="a dead letter does not have the exact body of its message",
        file="graphnode/sqs/letter_sender.py",
        old="MessageBody=delivery.body,",
        new="MessageBody=delivery.body.strip(),",
        checks=("tests/unit/sqs/test_letter_sender.py",),
    ),
    Mutant(
        name="refused-letter-told",
        what="a dead letter that SQS refuses is logged, reported and counted",
        file="graphnode/sqs/letter_sender.py",
        old="            self._note_refusal(delivery, error)\n",
        new="            self._note_refusal(delivery, error)\n            self._tell(delivery, dead)\n",
        checks=("tests/unit/sqs/test_letter_sender.py",),
    ),
    Mutant(
        name="refused-letter-circles",
        what="the message of a refused letter comes back at once, again and again",
        file="graphnode/sqs/letter_sender.py",
        old="settle(delivery, Retry(self.retry.backoff_of_refused(delivery.receive_count)))",
        new="settle(delivery, Nack())",
        checks=("tests/unit/sqs/test_letter_sender.py",),
    ),
    Mutant(
        name="refused-letters-hurry",
        what="refused letters are tried again before the first back-off",
        file="graphnode/sqs/verdicts.py",
        old="return max(math.ceil(self.backoff_min_s), self.backoff(receive_count))",
        new="return self.backoff(receive_count)",
        checks=("tests/unit/sqs/test_verdicts.py",),
    ),
    Mutant(
        name="refusals-flood-the-log",
        what="each refused letter is a line of the log",
        file="graphnode/sqs/letter_sender.py",
        old="        if not self._are_refused:\n",
        new="        if True:\n",
        checks=("tests/unit/sqs/test_letter_sender.py",),
    ),
    Mutant(
        name="undecodable-letter-not-told",
        what="nobody is told of the dead letter of a body that cannot be decoded",
        file="graphnode/sqs/letter_sender.py",
        old="        if delivery.is_decoded:\n            fields",
        new="        if not delivery.is_decoded:\n            return\n        if True:\n            fields",
        checks=("tests/unit/sqs/test_letter_sender.py",),
    ),
    Mutant(
        name="lost-letter",
        what="a letter is sent of a message that another worker has by now",
        file="graphnode/sqs/letter_sender.py",
        old="        if not delivery.is_ours(time.monotonic()):",
        new="        if False:",
        checks=("tests/unit/sqs/test_letter_sender.py",),
    ),
    Mutant(
        name="letter-expires",
        what="a message is not kept alive while its letter waits",
        file="graphnode/sqs/heartbeat.py",
        old="if delivery.state is not State.SETTLING\n",
        new="if delivery.state not in (State.SETTLING, State.GIVEN_UP)\n",
        checks=("tests/unit/sqs/test_letter_sender.py",),
    ),
    Mutant(
        name="letters-keep-documents",
        what="letters that wait keep their documents in memory",
        file="graphnode/sqs/letter_sender.py",
        old="            traceback.clear_frames(error.__traceback__)\n",
        new="            pass\n",
        checks=("tests/unit/sqs/test_letter_sender.py",),
    ),
    Mutant(
        name="letter-fault-keeps-message",
        what="a fault after a letter leaves its message on the queue, for a second letter",
        file="graphnode/sqs/letter_sender.py",
        old="        finally:\n            self.settlement",
        new="        except ZeroDivisionError:\n            raise\n        else:\n            self.settlement",
        checks=("tests/unit/sqs/test_letter_sender.py",),
    ),
    Mutant(
        name="letters-lost-at-stop",
        what="a stop does not send the letters that wait in memory",
        file="graphnode/sqs/consumer.py",
        old="        self.letters.close()\n",
        new="",
        checks=("tests/faults/test_letters.py::test_a_stop_waits_for_the_letters",),
    ),
    Mutant(
        name="stop-sends-all-letters",
        what="a stop waits as long as a slow dead-letter queue takes",
        file="graphnode/sqs/letter_sender.py",
        old="if time.monotonic() > self._closes_at:",
        new="if False:",
        checks=("tests/unit/sqs/test_letter_sender.py",),
    ),
    Mutant(
        name="second-letter-of-a-process",
        what="a message whose deletion failed after its letter has a second one",
        file="graphnode/worker/middleware.py",
        old="        if message.sqs_id in self._sent:\n",
        new="        if False:\n",
        checks=("tests/unit/worker/test_middleware_letters.py",),
    ),
    Mutant(
        name="second-letter-of-another-process",
        what="another process sends a second letter of a message whose deletion failed",
        file="graphnode/worker/middleware.py",
        old="return message.receive_count > 1 and self.ledger.is_given_up(message)",
        new="return False",
        checks=("tests/unit/worker/test_middleware_letters.py",),
    ),
    Mutant(
        name="actor-runs-after-its-letter",
        what="the actor runs again for a message whose letter was sent",
        file="graphnode/worker/middleware.py",
        old="        if self._is_sent(message):\n            message.verdict",
        new="        if False:\n            message.verdict",
        checks=("tests/unit/worker/test_middleware_letters.py",),
    ),
    Mutant(
        name="first-deliveries-looked-up",
        what="each message costs a query about its dead letter",
        file="graphnode/worker/middleware.py",
        old="return message.receive_count > 1 and self.ledger.is_given_up(message)",
        new="return self.ledger.is_given_up(message)",
        checks=("tests/unit/worker/test_middleware_letters.py",),
    ),
    Mutant(
        name="letters-remembered-for-ever",
        what="a process remembers all letters that it ever sent",
        file="graphnode/worker/middleware.py",
        old="            if len(self._sent) > MOST_REMEMBERED:",
        new="            if False:",
        checks=("tests/unit/worker/test_middleware_letters.py",),
    ),
    Mutant(
        name="discarded-again-and-again",
        what="each delivery of a message that SQS does not delete costs a call a second",
        file="graphnode/sqs/settlement.py",
        old="            elif isinstance(unsettled.verdict, Discard):\n",
        new="            elif False:\n",
        checks=("tests/unit/sqs/test_settlement.py",),
    ),
    Mutant(
        name="letter-without-its-message",
        what="other processes do not find a letter by its message",
        file="graphnode/storage/failures.py",
        old="        _insert(message_id, subject,",
        new='        _insert(f"letter of {message_id}", subject,',
        checks=("tests/integration/test_failures.py",),
    ),
    Mutant(
        name="failure-taken-for-a-letter",
        what="a message that has failed counts as one whose letter was sent",
        file="graphnode/storage/failures.py",
        old="of_message = (AttemptRecord.message_id == message_id) & AttemptRecord.given_up",
        new="of_message = AttemptRecord.message_id == message_id",
        checks=("tests/integration/test_failures.py",),
    ),
    Mutant(
        name="dead-letters-wait-for-a-retry",
        what="`graphnode status` counts dead letters as messages that wait for a retry",
        file="graphnode/storage/activity.py",
        old="AND NOT given_up AND failed_at",
        new="AND failed_at",
        checks=("tests/integration/test_failures.py",),
    ),
    Mutant(
        name="letter-quotes-nobodys-data",
        what="the row of a dead letter without a user quotes his data, and no `graphnode forget` finds it",
        file="graphnode/worker/ledger.py",
        old="dead.error if subject else dead.cause.log_text",
        new="dead.error",
        checks=("tests/integration/test_ledger.py",),
    ),
    Mutant(
        name="refused-letters-in-the-registry",
        what="`graphnode status` counts dead letters that SQS refused",
        file="graphnode/worker/registry.py",
        old=" and not isinstance(message.verdict, DeadLetter):",
        new=":",
        checks=("tests/unit/worker/test_registry.py",),
    ),
    Mutant(
        name="redrive-deletes-unsent",
        what="a redrive deletes a letter that SQS refused",
        file="graphnode/operations/dead_letters/redrive.py",
        old="reader.delete([letter for letter in ours if letter.message_id in sent.accepted])",
        new="reader.delete(ours)",
        checks=("tests/e2e/test_dead_letters.py::test_what_sqs_refuses_stays_a_letter",),
    ),
    Mutant(
        name="redrive-loses-attributes",
        what="a redriven dead letter loses the attributes of its sender",
        file="graphnode/operations/dead_letters/redrive.py",
        old="OutgoingMessage(letter.message_id, letter.body, sender_attributes(letter), sender_group(letter))",
        new="OutgoingMessage(letter.message_id, letter.body, {}, sender_group(letter))",
        checks=(
            "tests/e2e/test_dead_letters.py::test_a_letter_that_sqs_moved_is_explained_and_keeps_its_own_attributes",
        ),
    ),
    # Retries and outages.
    Mutant(
        name="no-back-off",
        what="a failed message is retried without a back-off",
        file="graphnode/sqs/settlement.py",
        old="[unsettled.verdict.after_s for unsettled in batch if isinstance(unsettled.verdict, Retry | Nack)]",
        new="[0 for _ in batch]",
        checks=("tests/unit/sqs/test_settlement.py",),
    ),
    Mutant(
        name="no-jitter",
        what="messages that failed together are retried together",
        file="graphnode/sqs/verdicts.py",
        old="round((jitter or random).uniform(0, ceiling))",
        new="round(ceiling)",
        checks=("tests/unit/sqs/test_verdicts.py",),
    ),
    Mutant(
        name="never-given-up",
        what="a message that always fails is retried forever",
        file="graphnode/sqs/verdicts.py",
        old="if attempt >= self.max_attempts:",
        new="if False:",
        checks=("tests/unit/sqs/test_verdicts.py",),
    ),
    Mutant(
        name="permanent-tried-again",
        what="a permanent error is retried instead of being dead-lettered at once",
        file="graphnode/sqs/verdicts.py",
        old="                return DeadLetter(error.reason, str(error), attempt, error)\n        if",
        new="                pass\n        if",
        checks=("tests/unit/sqs/test_verdicts.py",),
    ),
    Mutant(
        name="outage-is-a-failure",
        what="an outage counts as a failure: after eight attempts there is a dead letter",
        file="graphnode/worker/middleware.py",
        old="        if is_excused(broker.breaker, message, error):\n            return None\n",
        new="",
        checks=("tests/unit/worker/test_middleware.py",),
    ),
    Mutant(
        name="outage-counts",
        what="a failure that an outage keeps from being counted uses up an attempt",
        file="graphnode/worker/middleware.py",
        old="            if isinstance(uncounted, TransientError) and is_excused(broker.breaker, message, uncounted):\n"
        "                return None\n",
        new="",
        checks=("tests/unit/worker/test_middleware.py",),
    ),
    Mutant(
        name="broken-connection-counts",
        what="a connection that breaks once uses up an attempt",
        file="graphnode/worker/middleware.py",
        old="return isinstance(error, ServiceFault) and is_first",
        new="return False",
        checks=("tests/unit/worker/test_middleware.py",),
    ),
    Mutant(
        name="cause-never-counts",
        what="a message that crashes PostgreSQL each time is tried for ever",
        file="graphnode/worker/middleware.py",
        old="return message.suspicion < SUSPICIOUS",
        new="return True",
        checks=("tests/unit/worker/test_middleware.py",),
    ),
    Mutant(
        name="probe-not-asked",
        what="a service's fault is blamed on the message although the probe fails too",
        file="graphnode/sqs/circuit_breaker.py",
        old="            if failing:\n                service",
        new="            if failing and False:\n                service",
        checks=("tests/unit/sqs/test_circuit_breaker.py",),
    ),
    Mutant(
        name="all-services-asked",
        what="a fault of S3 is an outage because PostgreSQL fails its probe",
        file="graphnode/sqs/circuit_breaker.py",
        old="            if asked_about and asked_about.service != service:\n                continue\n",
        new="",
        checks=("tests/unit/sqs/test_circuit_breaker.py",),
    ),
    Mutant(
        name="own-failure-asks",
        what="a missing object opens the breaker",
        file="graphnode/sqs/circuit_breaker.py",
        old="        if error.is_own:\n            self.end_trial()\n            return False\n",
        new="",
        checks=("tests/unit/sqs/test_circuit_breaker.py",),
    ),
    Mutant(
        name="brake-off",
        what="failures of all users that no probe finds make dead letters",
        file="graphnode/sqs/circuit_breaker.py",
        old="return len(self._alike) >= ALIKE",
        new="return False",
        checks=("tests/unit/sqs/test_circuit_breaker.py",),
    ),
    Mutant(
        name="one-user-pulls-the-brake",
        what="one user's bad data stops everybody's messages",
        file="graphnode/sqs/circuit_breaker.py",
        old="self._alike = self._alike | {user}",
        new="self._alike = self._alike | {str(time.monotonic_ns())}",
        checks=("tests/unit/sqs/test_circuit_breaker.py",),
    ),
    Mutant(
        name="success-forgotten",
        what="failures far apart stop everybody's messages, whatever succeeds in between",
        file="graphnode/sqs/circuit_breaker.py",
        old="        if self._alike:\n            self._alike = set()\n",
        new="",
        checks=("tests/unit/sqs/test_circuit_breaker.py",),
    ),
    Mutant(
        name="different-failures-alike",
        what="failures for different reasons stop everybody's messages",
        file="graphnode/sqs/circuit_breaker.py",
        old="        if error.reason != self._alike_reason:\n",
        new="        if not self._alike_reason:\n",
        checks=("tests/unit/sqs/test_circuit_breaker.py",),
    ),
    Mutant(
        name="all-try-at-once",
        what="after an outage all messages start at once",
        file="graphnode/sqs/circuit_breaker.py",
        old="self._trial_until = time.monotonic() + TRIAL_S",
        new="self._trial_until = -math.inf",
        checks=("tests/unit/sqs/test_circuit_breaker.py",),
    ),
    Mutant(
        name="old-success-closes",
        what="a message that began before an outage ends it",
        file="graphnode/sqs/circuit_breaker.py",
        old="if self.state is Breaker.HALF_OPEN and since >= self._half_open_at:\n            with",
        new="if self.state is Breaker.HALF_OPEN:\n            with",
        checks=("tests/unit/sqs/test_circuit_breaker.py",),
    ),
    Mutant(
        name="trial-counts-for-nothing",
        what="after an outage a message that tries in vain leaves the breaker half-open",
        file="graphnode/sqs/circuit_breaker.py",
        old="                self._reopen(error)\n",
        new="                pass\n",
        checks=("tests/unit/sqs/test_circuit_breaker.py",),
    ),
    Mutant(
        name="outage-of-before-counts",
        what="a failure that began in an outage is blamed on its message afterwards",
        file="graphnode/sqs/circuit_breaker.py",
        old="return since < self._closed_at",
        new="return False",
        checks=("tests/unit/sqs/test_circuit_breaker.py",),
    ),
    Mutant(
        name="polls-in-an-outage",
        what="messages are received during an outage, and each receive brings them nearer to SQS's redrive",
        file="graphnode/sqs/consumer.py",
        old="if not self.breaker.may_poll(self.queue_name, ATTENTION_S):",
        new="if False:",
        checks=("tests/faults/test_outages.py::test_nothing_is_polled_while_a_service_is_away",),
    ),
    Mutant(
        name="starts-in-an-outage",
        what="after an outage all messages start at once",
        file="graphnode/sqs/consumer.py",
        old="if not self.breaker.may_start(self.timeout_s):",
        new="if False:",
        checks=("tests/faults/test_outages.py",),
    ),
    Mutant(
        name="rehearsal-only-reads",
        what="a database that takes no writes passes its probe",
        file="graphnode/storage/rehearsal.py",
        old="            write_row()\n",
        new="",
        checks=("tests/integration/test_rehearsal.py",),
    ),
    Mutant(
        name="rehearsal-without-demands",
        what="a full disk passes the probe of the database",
        file="graphnode/storage/rehearsal.py",
        old="            database.execute_sql(DEMANDS)\n",
        new="",
        checks=("tests/integration/test_rehearsal.py",),
    ),
    Mutant(
        name="rehearsal-without-rights",
        what="a missing right passes the probe of the database",
        file="graphnode/storage/rehearsal.py",
        old="        check_rights()\n",
        new="",
        checks=("tests/integration/test_rehearsal.py",),
    ),
    Mutant(
        name="bucket-stands-for-objects",
        what="S3 passes its probe although no object can be read",
        file="graphnode/clients/s3.py",
        old="    if failed:\n        raise failed\n",
        new="",
        checks=("tests/faults/test_s3.py",),
    ),
    Mutant(
        name="one-object-stands-for-all",
        what="an object that cannot be read stops everybody's messages",
        file="graphnode/clients/s3.py",
        old="for each in (key, _last_read) if each",
        new="for each in (key,) if each",
        checks=("tests/faults/test_s3.py",),
    ),
    Mutant(
        name="refusal-waited-for",
        what="a worker that may not read its bucket waits at its start for ever",
        file="graphnode/worker/startup.py",
        old="if not isinstance(error, ServiceFault) or error.is_refusal:",
        new="if not isinstance(error, ServiceFault):",
        checks=("tests/unit/worker/test_startup.py",),
    ),
    Mutant(
        name="limit-is-permanent",
        what="a full NOTIFY queue makes dead letters at once",
        file="graphnode/errors.py",
        old='    "22": RefusedByDatabase,\n',
        new='    "22": RefusedByDatabase,\n    "54": RefusedByDatabase,\n',
        checks=("tests/unit/test_errors.py",),
    ),
    Mutant(
        name="renewals-without-a-pause",
        what="each refused call starts the credential process, or calls STS",
        file="graphnode/clients/credentials.py",
        old="            if time.monotonic() < self._next_renewal:\n                return\n",
        new="",
        checks=("tests/unit/clients/test_credentials.py",),
    ),
    Mutant(
        name="renewal-of-one-thread",
        what="a thread that asks during a renewal goes on with the old credentials",
        file="graphnode/clients/credentials.py",
        old="            if time.monotonic() < self._next_renewal:\n                return\n            try:\n",
        new="            if time.monotonic() < self._next_renewal:\n                return\n"
        "            self._next_renewal = time.monotonic() + RENEWAL_PAUSE_S\n        if True:\n            try:\n",
        checks=("tests/unit/clients/test_credentials.py",),
    ),
    Mutant(
        name="failed-renewal-drops-credentials",
        what="a credentials file that is being written costs the credentials in use",
        file="graphnode/clients/credentials.py",
        old="                self._failure = error\n",
        new="                self._failure, self._resolved = error, None\n",
        checks=("tests/unit/clients/test_credentials.py",),
    ),
    Mutant(
        name="unfetched-credentials",
        what="credentials that STS refuses, or that have expired, replace those in use",
        file="graphnode/clients/credentials.py",
        old="                    resolved.get_frozen_credentials()\n",
        new="",
        checks=("tests/unit/clients/test_credentials.py",),
    ),
    Mutant(
        name="expired-credentials-unexpected",
        what="credentials that a container's endpoint hands out too late are the fault of each message",
        file="graphnode/clients/credentials.py",
        old="        raise CredentialRetrievalError(provider=source, error_msg=one_line(error)) from error\n",
        new="        raise\n",
        checks=("tests/faults/test_credentials.py",),
    ),
    Mutant(
        name="credentials-read-once",
        what="a rotated credentials file is not read again",
        file="graphnode/clients/aws.py",
        old="        self._credentials.renew()\n",
        new="        pass\n",
        checks=("tests/faults/test_credentials.py",),
    ),
    Mutant(
        name="credentials-of-their-own",
        what="S3 is called with the old credentials after SQS has got new ones",
        file="graphnode/worker/options.py",
        old="        aws=s3.aws(),\n",
        new="        aws=s3.Aws(region=known.aws_region, endpoint_url=known.aws_endpoint_url),\n",
        checks=("tests/unit/worker/test_options.py",),
    ),
    Mutant(
        name="refused-polls-keep-their-key",
        what="a worker whose key was rotated polls with the old one for ever",
        file="graphnode/sqs/consumer.py",
        old="                if is_refusal(error):\n",
        new="                if False:\n",
        checks=("tests/faults/test_credentials.py",),
    ),
    Mutant(
        name="refused-probe-keeps-its-key",
        what="an outage that S3's refusal of the key began never ends",
        file="graphnode/clients/s3.py",
        old="        aws().renew_credentials()\n",
        new="",
        checks=("tests/faults/test_credentials.py",),
    ),
    Mutant(
        name="throttling-is-a-refusal",
        what="throttled polls renew the credentials again and again",
        file="graphnode/clients/credentials.py",
        old=' and "Throttl" not in code',
        new="",
        checks=("tests/unit/clients/test_credentials.py",),
    ),
    # Messages in flight: heartbeats and stops.
    Mutant(
        name="heartbeat-off",
        what="no visibility timeout is extended: two workers handle a slow message",
        file="graphnode/sqs/settlement.py",
        old="if now >= self._next_look:",
        new="if False:",
        checks=(
            "tests/faults/test_keeping_alive.py::test_a_message_that_runs_for_five_visibility_timeouts_is_handled_once_by_two_workers",
        ),
    ),
    Mutant(
        name="extended-after-back-off",
        what="an extension in progress may arrive after the back-off and undo it",
        file="graphnode/sqs/settlement.py",
        old="free = [each for each in free if each.delivery not in self._in_calls]",
        new="free = list(free)",
        checks=("tests/unit/sqs/test_settlement.py",),
    ),
    Mutant(
        name="lost-message-started",
        what="a message is started although its visibility timeout expired while it waited",
        file="graphnode/sqs/consumer.py",
        old="if not delivery.is_ours(time.monotonic()):",
        new="if False:",
        checks=("tests/faults/test_keeping_alive.py",),
    ),
    Mutant(
        name="intake-goes-on",
        what="SIGTERM does not stop the polls",
        file="graphnode/worker/middleware.py",
        old="        broker.stop.request()\n        self._wind_down(worker)\n",
        new="        self._wind_down(worker)\n",
        checks=("tests/faults/test_stopping.py",),
    ),
    Mutant(
        name="no-drain",
        what="a stop gives waiting messages back only after the running ones have finished",
        file="graphnode/worker/middleware.py",
        old="        broker.stop.request()\n        self._wind_down(worker)\n",
        new="        broker.stop.request()\n",
        checks=("tests/faults/test_stopping.py::test_running_messages_finish_and_waiting_ones_go_back",),
    ),
    Mutant(
        name="held-at-stop",
        what="a message that an outage parked stays hidden after its worker has stopped",
        file="graphnode/sqs/consumer.py",
        old="if each.state in UNSTARTED)",
        new="if each.state in UNSTARTED and not each.started)",
        checks=("tests/faults/test_outages.py::test_a_stop_during_an_outage_gives_back_the_parked_messages",),
    ),
    # One effect.
    Mutant(
        name="no-task-key",
        what="the row of a task is not checked: a repeated result has its effect again",
        file="graphnode/actors/effects.py",
        old="repeated = tasks.is_final(stored) or has_ended_so(envelope, stored) or has_news(envelope)",
        new="repeated = has_news(envelope)",
        checks=(ANY_ORDER,),
    ),
    Mutant(
        name="failed-is-final",
        what="a FAILED task cannot become COMPLETED",
        file="graphnode/storage/tasks.py",
        old="FINAL = (TaskStatus.COMPLETED, TaskStatus.SUPERSEDED)",
        new="FINAL = (TaskStatus.COMPLETED, TaskStatus.SUPERSEDED, TaskStatus.FAILED)",
        checks=(ANY_ORDER,),
    ),
    Mutant(
        name="no-user-lock",
        what="two results of a user are stored at the same time",
        file="graphnode/storage/database.py",
        old="SET LOCAL lock_timeout = %s; {LOCK_USER};",
        new="SET LOCAL lock_timeout = %s; SELECT %s;",
        checks=(
            "tests/integration/test_database.py::TestUserTransaction::test_transactions_of_one_user_run_one_after_the_other",
        ),
    ),
    Mutant(
        name="user-lock-waited-for",
        what="a thread waits for a user whose lock another session holds",
        file="graphnode/storage/database.py",
        old="USER_LOCK_WAIT_MS = 50\n",
        new="USER_LOCK_WAIT_MS = 15_000\n",
        checks=(
            "tests/integration/test_database.py::TestUserTransaction::test_the_users_lock_is_asked_for_and_not_waited_for",
        ),
    ),
    Mutant(
        name="idle-threads-keep-connections",
        what="idle threads keep their connections while others get none",
        file="graphnode/storage/connections.py",
        old="            if connection.is_spare:\n",
        new="            if False:\n",
        checks=("tests/integration/test_shortage.py",),
    ),
    Mutant(
        name="watchdog-off",
        what="a thread waits for a silent connection for as long as it is silent",
        file="graphnode/storage/watchdog.py",
        old="            self._look()\n",
        new="            pass\n",
        checks=(
            "tests/integration/test_watchdog.py::TestSilentConnection::test_a_statement_ends_soon_after_its_own_limit",
        ),
        hangs="nothing else ends libpq's wait for an answer",
    ),
    Mutant(
        name="stuck-session-left-alone",
        what="a process that is stopped in the middle of a COPY keeps its user's lock",
        file="graphnode/storage/stuck_sessions.py",
        old="        if (pid, *progress) in before\n",
        new="        if False\n",
        checks=("tests/integration/test_stuck_sessions.py",),
    ),
    Mutant(
        name="newest-timestamp-off",
        what="an older graph replaces a newer one",
        file="graphnode/actors/graph_generation.py",
        old="if stored and stored > timestamp:",
        new="if False:",
        checks=(ANY_ORDER,),
    ),
    Mutant(
        name="old-progress-kept",
        what="progress that arrives late replaces newer progress",
        file="graphnode/storage/tasks.py",
        old="is_news = TaskRecord.progress_at.is_null() | (TaskRecord.progress_at < EXCLUDED.progress_at)",
        new="is_news = TaskRecord.progress_at.is_null() | TaskRecord.progress_at.is_null(False)",
        checks=("tests/integration/test_tasks.py",),
    ),
    Mutant(
        name="someone-elses-task",
        what="a result that names another user's task is stored",
        file="graphnode/storage/tasks.py",
        old="        if task.user_id != user_id:\n",
        new="        if False:\n",
        checks=("tests/integration/test_tasks.py",),
    ),
    Mutant(
        name="etag-off",
        what="a document that is overwritten during a read is a mixture of both versions",
        file="graphnode/clients/s3.py",
        old='{"IfMatch": self._etag, "Range":',
        new='{"Range":',
        checks=("tests/faults/test_s3.py",),
    ),
    Mutant(
        name="damaged-bytes",
        what="bytes that do not match their checksum are an error without a name",
        file="graphnode/clients/s3.py",
        old="            except FlexibleChecksumError as error:\n",
        new="            except ZeroDivisionError as error:\n",
        checks=("tests/faults/test_s3.py",),
    ),
    Mutant(
        name="lost-report-forgotten",
        what="a worker whose health report is lost is alive for ever",
        file="graphnode/worker/health.py",
        old="for pid, report in self._latest.items() if is_running(pid)",
        new="for pid, report in self._latest.items() if False",
        checks=("tests/unit/worker/test_health.py",),
    ),
    Mutant(
        name="log-in-the-thread",
        what="an actor waits for the reader of the log",
        file="graphnode/telemetry/log_writer.py",
        old="        if threading.current_thread() is self._thread:\n",
        new="        if True:\n",
        checks=("tests/unit/telemetry/test_log_writer.py",),
    ),
    Mutant(
        name="orphans-live-on",
        what="a process whose main process was killed goes on taking messages",
        file="graphnode/worker/parent.py",
        old="        os.kill(os.getpid(), signal.SIGTERM)\n",
        new="        pass\n",
        checks=("tests/e2e/test_stops_and_outages.py",),
    ),
    Mutant(
        name="features-in-transaction",
        what="a transaction waits for S3 while features are read",
        file="graphnode/actors/graph_generation.py",
        old="    width_before = graphs.embedding_width(user_id) if documents.features else None\n",
        new="    width_before = graphs.embedding_width(user_id) if documents.features else None\n"
        "    read_features(effects.payload.features_s3_key, rows, Counter(), spool=Spool())\n",
        checks=("tests/integration/test_features.py",),
    ),
    Mutant(
        name="unbounded-spool",
        what="one features file may fill the disk",
        file="graphnode/clients/spool.py",
        old="        self._written += len(record)\n",
        new="",
        checks=("tests/unit/clients/test_spool.py",),
    ),
    Mutant(
        name="spool-kept-in-memory",
        what="a full disk is found within the transaction, when the last embeddings are written",
        file="graphnode/clients/spool.py",
        old="                self._file.flush()\n",
        new="                pass\n",
        checks=("tests/unit/clients/test_spool.py",),
    ),
    Mutant(
        name="forgotten-user-comes-back",
        what="a late result stores data of a user whose data was deleted",
        file="graphnode/actors/effects.py",
        old="return stored is None and users.is_forgotten(user_id)",
        new="return False",
        checks=("tests/integration/test_users.py",),
    ),
    Mutant(
        name="asked-twice",
        what="a repeated request is published again",
        file="graphnode/requests/client.py",
        old="if states.get(_key(task)) == RequestState.WAITING]",
        new="if states.get(_key(task)) != RequestState.GIVEN_UP]",
        checks=("tests/integration/test_requests.py",),
    ),
    Mutant(
        name="workspace-completes-early",
        what="a workspace is completed while one of its documents is still processed",
        file="graphnode/storage/microscope.py",
        old="if not tally or tally.keys() - {DocumentStatus.COMPLETED, DocumentStatus.FAILED}:",
        new="if not tally:",
        checks=("tests/integration/test_microscope.py",),
    ),
    Mutant(
        name="sweep-ends-running-tasks",
        what="a sweep ends tasks before their own timeout",
        file="graphnode/storage/tasks.py",
        old="updated_at < now() - make_interval(secs => (%(timeouts)s::jsonb ->> task_type)::double precision)",
        new="%(timeouts)s::jsonb ->> task_type IS NOT NULL",
        checks=("tests/integration/test_overdue_tasks.py",),
    ),
    Mutant(
        name="sweep-overtakes-results",
        what="a sweep ends tasks whose results wait on the queue",
        file="graphnode/actors/overdue.py",
        old=" or (ended == 0 and visible_messages(broker.client, broker.options.queues[RESULT_QUEUE].url)):",
        new=":",
        checks=("tests/integration/test_overdue_tasks.py",),
    ),
    # Notifications: one for each effect, none for a rollback.
    Mutant(
        name="notification-outside",
        what="the effect is committed before its notification: after a crash in between there is none",
        file="graphnode/actors/effects.py",
        old="        event = notice.event\n",
        new="        event = notice.event\n        notifications.database.commit()\n",
        checks=(ANY_ORDER,),
    ),
    Mutant(
        name="told-before-commit",
        what="a push is sent before the commit: the user hears of a result that is rolled back",
        file="graphnode/actors/effects.py",
        old="    for notification_id in effects.to_push:\n        enqueue(notification_id)\n",
        new="        for notification_id in effects.to_push:\n            enqueue(notification_id)\n",
        checks=(ANY_ORDER,),
    ),
    Mutant(
        name="web-page-removes-devices",
        what="a proxy's web page in place of FCM's answer removes the users' devices",
        file="graphnode/clients/fcm_answers.py",
        old="""        return Later(f"HTTP_{status}: the answer is not FCM's", _asked_for(error), is_unknown=True)\n""",
        new="        return Gone()\n",
        checks=("tests/integration/test_push.py::TestAnswers",),
    ),
    Mutant(
        name="push-twice",
        what="a notification is pushed for each of its messages, even if it was pushed already",
        file="graphnode/storage/notifications.py",
        old=".where(NotificationRecord.id == notification_id, is_left, is_time)",
        new=".where(NotificationRecord.id == notification_id)",
        checks=("tests/integration/test_delivering.py::test_a_push_goes_to_all_devices_once",),
    ),
    Mutant(
        name="sweeps-share-nothing",
        what="every sweep enqueues the same notifications again",
        file="graphnode/storage/notifications.py",
        old="THEN now() + make_interval(secs => %s) END",
        new="THEN due_at + make_interval(secs => 0 * %s) END",
        checks=(
            "tests/integration/test_notifications.py::TestSweep::test_one_of_many_sweeps_at_once_takes_each_and_none_waits",
        ),
    ),
    Mutant(
        name="push-lost-in-a-crash",
        what="a notification is never pushed if its worker died between the commit and the queue",
        file="graphnode/storage/notifications.py",
        old="due_at=_from_now(ENQUEUED_S) if push else None,",
        new="due_at=None,",
        checks=("tests/integration/test_notifications.py::TestSweep",),
    ),
    Mutant(
        name="old-workers-keep-out",
        what="a worker of the previous release does not start after the migration",
        file="graphnode/storage/schema.py",
        old="    if floor and floor not in known:\n",
        new="    if newer:\n",
        checks=("tests/integration/test_schema.py::TestCheckSchema",),
    ),
    Mutant(
        name="old-workers-start-behind-a-contract",
        what="a worker starts on a schema that is too old for it",
        file="graphnode/storage/schema.py",
        old="    if floor and floor not in known:\n",
        new="    if False:\n",
        checks=("tests/integration/test_schema.py::TestCheckSchema",),
    ),
    Mutant(
        name="contract-under-workers",
        what="a contracting migration removes columns that running workers still need",
        file="graphnode/storage/schema.py",
        old="    if needing:\n",
        new="    if False:\n",
        checks=("tests/integration/test_schema.py::TestContract",),
    ),
    Mutant(
        name="migration-waits-in-the-way",
        what="a migration that waits for a table's lock blocks all workers until it gets the lock",
        file="graphnode/storage/migration_locks.py",
        old='"SET LOCAL lock_timeout = %s; ',
        new='"SET LOCAL application_name = %s; ',
        checks=(f"{MIGRATION_LOCKS}::TestLocks",),
    ),
    Mutant(
        name="migration-holds-on",
        what="a migration may hold the lock on its table for any time",
        file="graphnode/storage/migration_locks.py",
        old="SET LOCAL statement_timeout = %s",
        new="SET LOCAL application_name = %s",
        checks=(f"{MIGRATION_LOCKS}::TestLocks::test_a_statement_that_holds_locks_for_long_is_cancelled",),
    ),
    Mutant(
        name="migrators-wait-for-each-other",
        what="an index is never made while the holder of the migration lock has a snapshot",
        file="graphnode/storage/migration_locks.py",
        old='        holding.set_session(isolation_level="READ COMMITTED")\n',
        new="",
        checks=(f"{MIGRATION_LOCKS}::TestSoleMigrator",),
    ),
    Mutant(
        name="invalid-index-stays",
        what="an invalid index, left by a failed migration, counts as an index",
        file="graphnode/storage/online.py",
        old=".fetchone() == (False,):",
        new=".fetchone() == ():",
        checks=("tests/integration/test_online.py::TestMakeIndex",),
    ),
)

CATALOGUE = (
    *MUTANTS,
    *(replace(one, name=f"{one.name}-in-chaos", checks=(CHAOS,)) for one in MUTANTS if one.name in SEEN_BY_CHAOS),
)
