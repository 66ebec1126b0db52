"""Forgetting a user: all that is stored of them goes, and results that come late do not bring it back."""

from __future__ import annotations

from typing import NamedTuple

from peewee import TextField, fn
from playhouse.postgres_ext import DateTimeTZField

from graphnode.storage.database import Record, connection, user_transaction
from graphnode.storage.deleted_letters import DeletedLetterRecord
from graphnode.storage.failures import AttemptRecord
from graphnode.storage.graphs import GraphRecord
from graphnode.storage.microscope import DocumentRecord, WorkspaceRecord
from graphnode.storage.notifications import DeviceTokenRecord, NotificationRecord
from graphnode.storage.summaries import SummaryRecord
from graphnode.storage.tasks import TaskRecord

#: What a user has. The parts of a graph, and what belongs to a document, go with their row: the database sees to it.
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
    DocumentRecord.standardized_s3_key,
    DocumentRecord.block_graph_s3_key,
    DocumentRecord.images_s3_prefix,
)


class ForgottenUserRecord(Record):
    """A user whose data was removed."""

    user_id = TextField(primary_key=True)
    forgotten_at = DateTimeTZField()

    class Meta:
        table_name = "forgotten_users"


class Forgotten(NamedTuple):
    """What was removed.

    Parameters:
      rows: how many, by table; the parts of a graph and of a document are not counted.
      s3_keys: the objects (and prefixes, ending in `/`) that these rows named: whoever calls has them deleted.
    """

    rows: dict[str, int]
    s3_keys: list[str]


def is_forgotten(user_id: str) -> bool:
    """Whether the user's data was removed."""
    with connection():
        return bool(ForgottenUserRecord.select().where(ForgottenUserRecord.user_id == user_id).exists())


def forget_user(user_id: str) -> Forgotten:
    """Remove all that is stored of a user, in one transaction under their lock, and note that it was.

    A second time removes what has come since: the user may have come back.
    """
    with user_transaction(user_id):
        s3_keys = sorted(_s3_keys(user_id))
        rows = {
            table._meta.table_name: table.delete().where(table._meta.fields["user_id"] == user_id).execute()
            for table in BELONGINGS
        }
        ForgottenUserRecord.insert(user_id=user_id, forgotten_at=fn.now()).on_conflict(
            conflict_target=[ForgottenUserRecord.user_id], update={ForgottenUserRecord.forgotten_at: fn.now()}
        ).execute()
    return Forgotten(rows, s3_keys)


def _s3_keys(user_id: str) -> set[str]:
    documents = DocumentRecord.select(*DOCUMENT_KEYS).where(DocumentRecord.user_id == user_id)
    tasks = TaskRecord.select(TaskRecord.s3_keys).where(TaskRecord.user_id == user_id)
    of_documents = {key for row in documents.tuples().iterator() for key in row if key}
    return of_documents.union(*(keys for (keys,) in tasks.tuples().iterator()))
