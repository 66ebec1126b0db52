"""After any messages in any order, also repeated, at once and with crashes, the tables are as the contract says."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier

import pytest
from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, initialize, invariant, multiple, rule

from graphnode.errors import TransientError, WrongOwner, classify_error
from graphnode.storage import failures, graph_status
from graphnode.storage.database import database, user_transaction
from graphnode.storage.failures import Subject
from tests.any_order import api_server
from tests.any_order.delivery import Crash, bench, deliver, sweep_up_overdue
from tests.any_order.messages import (
    USERS,
    WORKSPACES,
    document_ids,
    ends_and_late_progress,
    graph_tasks,
    graphs_and_moves,
    halves_of,
    in_workspace,
    messages,
    microscope_results,
    of_another_user,
    rivals,
    users,
    workspace_of,
)
from tests.any_order.stored import content_times, expected_tables, faults, pending_pushes, stored_tables
from tests.chaos.model import contract as model
from tests.chaos.model.contract import Refused
from tests.chaos.model.state import Document, Message, State, Task, Workspace
from tests.chaos.model.tables import differences
from tests.conftest import emptying

#: Sequences of messages to try: more at night than in an ordinary run.
SEQUENCES = {"nightly": 500}.get(settings.get_current_profile_name(), 25)

#: The beginning of the task IDs of each kind of request.
REQUESTED = {"GRAPH_GENERATION": "task_graph", "GRAPH_SUMMARY": "task_summary", "ADD_CONVERSATION": "task_add_node"}

#: The most steps of a sequence.
STEPS = 40

#: The steps at which a delivery may crash: that of a graph with features and a summary has up to 28.
CRASHES = st.integers(1, 28)

#: A time that only a wrong clock has.
FAR_FUTURE = datetime(2099, 1, 1, tzinfo=UTC)

#: The most tries of a message whose transaction PostgreSQL aborts: by then the other transaction is over.
MAX_TRIES = 8


class AnyOrder(RuleBasedStateMachine):
    """Sends messages and delivers them: late, again, at once, with a crash. The model says what must be stored."""

    sent: Bundle[Message] = Bundle("sent")

    def __init__(self) -> None:
        super().__init__()
        self.state = State()
        self.deliveries = Counter[str]()
        self.in_back_off: set[tuple[str, str]] = set()
        self.content_times: dict[str, datetime] = {}
        self.content_changes: dict[str, int] = {}
        database.cursor().execute(emptying())  # type: ignore[no-untyped-call]
        bench.clear()

    @initialize(target=sent, drawn=st.lists(messages, min_size=5, max_size=10))
    def send_some(self, drawn: list[Message]) -> MultipleResults[Message]:
        for message in drawn:
            bench.documents |= message.documents
        return multiple(*drawn)

    @rule(target=sent, message=messages)
    def send(self, message: Message) -> Message:
        self.upload_and_deliver(message)
        return message

    @rule(message=sent)
    def deliver_late_or_again(self, message: Message) -> None:
        self.deliver(message)

    @rule(target=sent, message=messages, at=CRASHES)
    def send_and_crash(self, message: Message, at: int) -> Message:
        bench.documents |= message.documents
        self.deliver_with_a_crash_and_again(message, at)
        return message

    @rule(message=sent, at=CRASHES)
    def deliver_late_and_crash(self, message: Message, at: int) -> None:
        self.deliver_with_a_crash_and_again(message, at)

    @rule(target=sent, both=rivals())
    def send_two_and_have_the_later_overtake(self, both: list[Message]) -> MultipleResults[Message]:
        for message in both:
            self.upload_and_deliver(message)
        return multiple(*both)

    @rule(target=sent, both=graphs_and_moves() | ends_and_late_progress())
    def send_two_in_order(self, both: list[Message]) -> MultipleResults[Message]:
        for message in both:
            self.upload_and_deliver(message)
        return multiple(*both)

    @rule(target=sent, both=rivals())
    def send_two_at_once(self, both: list[Message]) -> MultipleResults[Message]:
        for message in both:
            bench.documents |= message.documents
        self.deliver_at_once(*both)
        return multiple(*both)

    @rule(one=sent, other=sent)
    def deliver_two_at_once(self, one: Message, other: Message) -> None:
        self.deliver_at_once(one, other)

    @rule(message=sent, user_id=st.sampled_from(USERS))
    def deliver_as_another_users(self, message: Message, user_id: str) -> None:
        self.deliver(of_another_user(message, user_id=user_id))

    @rule(message=microscope_results(), user_id=users, number=st.sampled_from(WORKSPACES))
    def deliver_into_another_workspace(self, message: Message, user_id: str, number: str) -> None:
        bench.documents |= message.documents
        self.deliver(in_workspace(message, workspace_of(user_id, number)))

    @rule(user_id=users, kind=st.sampled_from(tuple(REQUESTED)), number=st.integers(1, 3), accepts=st.booleans())
    def request(self, user_id: str, kind: str, number: int, accepts: bool) -> None:
        task_id = f"{REQUESTED[kind]}_{user_id}_{number}"
        refusal = api_server.request(kind, task_id, user_id=user_id, accepts=accepts)
        self.state = model.after_request(self.state, kind, task_id, user_id=user_id, refusal=refusal)

    @rule(data=st.data(), user_id=users, number=st.sampled_from(WORKSPACES), accepts=st.booleans())
    def request_a_document(self, data: st.DataObject, user_id: str, number: str, accepts: bool) -> None:
        workspace = Workspace(workspace_of(user_id, number), user_id, "Thesis")
        document = requested_document(data.draw(document_ids(user_id)), workspace)
        halves = halves_of(document.id)
        refusals = api_server.request_document(document, workspace, halves=halves, accepts=accepts)
        self.state = model.after_document_request(self.state, document, workspace, halves=halves, refusals=refusals)

    @rule(user_id=users)
    def have_an_earlier_version_store_a_file_by_a_longer_name(self, user_id: str) -> None:
        file = {"file_id": "uf-1", "name": "uf-1_report.pdf"}
        api_server.rename_file(user_id, **file)
        self.state = model.after_longer_name(self.state, user_id, **file)

    @rule(user_id=users, number=st.integers(1, 3))
    def register_a_task(self, user_id: str, number: int) -> None:
        key = f"task_graph_{user_id}_{number}", "GRAPH_GENERATION_RESULT"
        api_server.register_task(*key, user_id=user_id)
        self.state = model.after_registration(self.state, *key, user_id=user_id)

    @rule(task=graph_tasks())
    def let_an_attempt_fail(self, task: Task) -> None:
        failures.record_failure(
            f"m-{task.task_id}", reason="R", error="e", subject=Subject(task.task_id, task.task_type, task.user_id)
        )
        self.in_back_off.add((task.task_id, task.task_type))

    @rule(task=graph_tasks())
    def let_an_attempt_succeed(self, task: Task) -> None:
        failures.clear_failures(f"m-{task.task_id}")
        self.in_back_off.discard((task.task_id, task.task_type))

    @rule(task=graph_tasks())
    def sweep_an_overdue_task(self, task: Task) -> None:
        key = task.task_id, task.task_type
        api_server.let_time_pass(*key)
        taken = sweep_up_overdue()
        stored = self.state.tasks.get(key)
        if stored is None or stored.status not in ("PENDING", "PROGRESS") or key in self.in_back_off:
            assert taken is None
            api_server.let_time_pass(*key, days=-1)
            return
        assert taken == key
        self.state = model.after_timeout(self.state, key)

    @rule(user_id=users, lie=st.sampled_from(("settled", "CREATING", "UPDATING")))
    def let_an_earlier_release_lie(self, user_id: str, lie: str) -> None:
        """It leaves CREATING or UPDATING with nothing open, or the settled status while a task is open."""
        if user_id not in self.state.graphs:
            return
        settled = self.state.last_changes.get(user_id, "NOT_CREATED")
        status, before = (settled, None) if lie == "settled" else (lie, settled)
        api_server.lie_about_status(user_id, status=status, status_before=before)
        self.state = self.state.copy()
        graph = self.state.graphs[user_id]
        self.state.graphs[user_id] = graph._replace(status=status, status_before=before)

    @rule(user_id=users)
    def sweep_statuses(self, user_id: str) -> None:
        if user_id in self.state.graphs:
            with user_transaction(user_id):
                graph_status.derive_status(user_id)
            self.state = model.after_sweep(self.state, user_id)

    @rule(user_id=users)
    def let_an_earlier_release_believe_a_clock(self, user_id: str) -> None:
        api_server.poison_times(user_id, at=FAR_FUTURE)
        self.state = model.after_earlier_release(self.state, user_id, at=FAR_FUTURE)

    @rule(data=st.data(), user_id=users, number=st.sampled_from(WORKSPACES))
    def add_a_document(self, data: st.DataObject, user_id: str, number: str) -> None:
        workspace = Workspace(workspace_of(user_id, number), user_id, "Thesis")
        document = Document(data.draw(document_ids(user_id)), workspace.id, user_id, "PENDING")
        api_server.add_document(document, workspace)
        self.state = model.after_new_document(self.state, document, workspace)

    @invariant()
    def tables_are_the_models(self) -> None:
        assert not differences(stored_tables(), expected_tables(self.state))

    @invariant()
    def tables_are_sound(self) -> None:
        assert not faults()

    @invariant()
    def the_time_of_the_content_moves_exactly_with_it(self) -> None:
        times, changes = content_times(), dict(self.state.content_changes)
        moved = {user_id for user_id in USERS if times.get(user_id) != self.content_times.get(user_id)}
        assert moved == {user_id for user_id in USERS if changes.get(user_id) != self.content_changes.get(user_id)}
        self.content_times, self.content_changes = times, changes

    def upload_and_deliver(self, message: Message) -> None:
        """Do the AI server's part, and then the worker's."""
        bench.documents |= message.documents
        self.deliver(message)

    def deliver(self, message: Message) -> None:
        """Deliver a message alone. Afterwards each new pending push is enqueued."""
        attempt = self.count_delivery(message)
        expected = self.expected(message, attempt)
        if expected is None:
            event("refused: of another user")
            with pytest.raises(WrongOwner):
                deliver(message, attempt=attempt)
            return
        waiting = pending_pushes()
        deliver(message, attempt=attempt)
        assert pending_pushes() - waiting <= set(bench.woken)
        event(kind_of_step(self.state, expected))
        self.state = expected

    def deliver_with_a_crash_and_again(self, message: Message, at: int) -> None:
        """Crash at the nth step of a delivery, and deliver again. Only a commit before the crash has an effect."""
        attempt = self.count_delivery(message)
        expected = self.expected(message, attempt)
        if expected is None:
            return
        woken = list(bench.woken)
        try:
            with bench.crashing(at):
                deliver(message, attempt=attempt)
        except Crash:
            if bench.committed:
                event("crash after the commit")
                self.state = expected
            else:
                event("crash before the commit")
                assert bench.woken == woken, "pushes were woken without a commit"
        else:
            self.state = expected
        self.tables_are_the_models()
        self.deliver(message)

    def deliver_at_once(self, one: Message, other: Message) -> None:
        """Deliver two messages from two threads. The effect is that of both in one of the two orders."""
        both = [(one, self.count_delivery(one)), (other, self.count_delivery(other))]
        in_order = self.one_after_the_other(both)
        in_reverse = self.one_after_the_other(both[::-1])
        start = Barrier(2)
        with ThreadPoolExecutor(2) as threads:
            refused = sum(threads.map(lambda sent: is_refused(*sent, start=start), both))
        found = stored_tables()
        possible = [state for state, refusals in (in_order, in_reverse) if refusals == refused]
        matching = [state for state in possible if not differences(found, expected_tables(state))]
        event("two at once" if in_order[0].tables() == in_reverse[0].tables() else "two at once, and the order matters")
        assert matching, [differences(found, expected_tables(state)) for state in possible]
        self.state = matching[0]

    def count_delivery(self, message: Message) -> int:
        """How often SQS has delivered the message, this time included."""
        body = json.dumps(message.body)
        self.deliveries[body] += 1
        return self.deliveries[body]

    def expected(self, message: Message, attempt: int) -> State | None:
        """The model's state after a message; None if the model refuses the message."""
        try:
            return model.after(self.state, message, attempt=attempt)
        except Refused:
            return None

    def one_after_the_other(self, deliveries: list[tuple[Message, int]]) -> tuple[State, int]:
        """The model's state after these messages, and how many of them it refuses."""
        state, refused = self.state, 0
        for message, attempt in deliveries:
            try:
                state = model.after(state, message, attempt=attempt)
            except Refused:
                refused += 1
        return state, refused


def requested_document(document_id: str, workspace: Workspace) -> Document:
    """A document as the API server requests it, of a file or of a node."""
    document = Document(document_id, workspace.id, workspace.user_id, "PROCESSING")
    if "_file_" in document_id:
        return document._replace(file_name=api_server.FILE_NAME, input_s3_key=api_server.INPUT)
    return document._replace(node_id=api_server.NODE, node_type="note")


def is_refused(message: Message, attempt: int, *, start: Barrier) -> bool:
    """Deliver a message when all threads are ready, and again after a transient error. True if it has a wrong owner."""
    start.wait()
    for _ in range(MAX_TRIES):
        try:
            deliver(message, attempt=attempt)
        except WrongOwner:
            return True
        except Exception as error:
            if not isinstance(classify_error(error), TransientError):
                raise
        else:
            return False
    raise AssertionError(f"the message failed {MAX_TRIES} times with a transient error")


def kind_of_step(before: State, after: State) -> str:
    """What a delivery did, for Hypothesis's statistics."""
    if before == after:
        return "no effect: repeated or older"
    ended = [task for key, task in after.tasks.items() if before.tasks.get(key) != task]
    notified = list(after.notifications.values())[len(before.notifications) :]
    return " and ".join([*(f"{task.task_type} {task.status}" for task in ended), *(row.type for row in notified[1:])])


@pytest.mark.usefixtures("in_this_process")
class TestEveryTableIsAsTheContractSaysAfterAnySequenceOfMessages(AnyOrder.TestCase):  # type: ignore[valid-type,misc]
    # Report one failure only: shrinking a sequence is slow, and most failures have one cause.
    settings = settings(max_examples=SEQUENCES, stateful_step_count=STEPS, report_multiple_bugs=False)
