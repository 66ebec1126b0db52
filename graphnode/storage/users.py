"""Forgetting a user: all their rows are deleted, and late results do not bring them back."""

from __future__ import annotations

from typing import NamedTuple

from peewee import TextField, fn
from playhouse.postgres_ext import DateTimeTZField

from graphnode.storage.audit import forget_entries
from graphnode.storage.database import LOCK_TIMEOUT_MS, Record, database, user_transaction
from graphnode.storage.deleted_letters import DeletedLetterRecord
from graphnode.storage.failures import AttemptRecord
from graphnode.storage.graphs import GraphRecord
from graphnode.storage.microscope import DocumentRecord, WorkspaceRecord
from graphnode.storage.notifications import DeviceTokenRecord, NotificationRecord
from graphnode.storage.summaries import SummaryRecord
from graphnode.storage.tasks import TaskRecord

#: Tables with rows of a user. Foreign keys also delete the parts of a graph and the graphs of a document.
BELONGINGS: tuple[type[Record], ...] = (
    GraphRecord,
    SummaryRecord,
    DocumentRecord,
    WorkspaceRecord,
    NotificationRecord,
    DeviceTokenRecord,
    TaskRecord,
    AttemptRecord,
    DeletedLetterRecord,
)

#: The columns of a document that name objects in S3.
DOCUMENT_KEYS = (
    DocumentRecord.input_s3_key,
    DocumentRecord.standardized_s3_key,
    DocumentRecord.block_graph_s3_key,
    DocumentRecord.images_s3_prefix,
)


class ForgottenUserRecord(Record):
    """A user whose data was deleted."""

    user_id = TextField(primary_key=True)
    forgotten_at = DateTimeTZField()

    class Meta:
        table_name = "forgotten_users"


class ForgottenData(NamedTuple):
    """What was deleted of a user.

    Parameters:
      rows: number of deleted rows by table, without the parts of a graph and the graphs of a document.
      s3_keys: the objects (and prefixes, ending in `/`) that these rows named. The caller should delete them.
    """

    rows: dict[str, int]
    s3_keys: list[str]


def forget_user(user_id: str) -> ForgottenData:
    """Delete all rows of a user, and record that, in one transaction under the user's lock.

    It can be repeated: the user may have come back meanwhile.

    Raises:
      UserLocked: Another session holds the user's lock for longer than `LOCK_TIMEOUT_MS`.
    """
    with user_transaction(user_id, wait_ms=LOCK_TIMEOUT_MS):
        # A failure is recorded without the user's lock: one that comes after this knows that the user is forgotten.
        database.execute_sql("LOCK TABLE task_attempts IN SHARE ROW EXCLUSIVE MODE")
        s3_keys = sorted(_s3_keys(user_id))
        rows = {
            table._meta.table_name: table.delete().where(table._meta.fields["user_id"] == user_id).execute()
            for table in BELONGINGS
        }
        forget_entries(user_id)
        ForgottenUserRecord.insert(user_id=user_id, forgotten_at=fn.now()).on_conflict(
            conflict_target=[ForgottenUserRecord.user_id], update={ForgottenUserRecord.forgotten_at: fn.now()}
        ).execute()
    return ForgottenData(rows, s3_keys)


def _s3_keys(user_id: str) -> set[str]:
    documents = DocumentRecord.select(*DOCUMENT_KEYS).where(DocumentRecord.user_id == user_id)
    tasks = TaskRecord.select(TaskRecord.s3_keys).where(TaskRecord.user_id == user_id)
    of_documents = {key for row in documents.tuples().iterator() for key in row if key}
    return of_documents.union(*(keys for (keys,) in tasks.tuples().iterator()))
