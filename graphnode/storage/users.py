"""Forgetting a user: all that is stored of them goes, and results that come late do not bring it back."""

from __future__ import annotations

from typing import NamedTuple

from peewee import TextField, fn
from playhouse.postgres_ext import DateTimeTZField

from graphnode.storage.database import Table, connection, user_transaction
from graphnode.storage.deleted_letters import DeletedLetter
from graphnode.storage.failures import TaskAttempt
from graphnode.storage.graphs import Graph
from graphnode.storage.microscope import MicroscopeDocument, MicroscopeWorkspace
from graphnode.storage.notifications import DeviceToken, Notification
from graphnode.storage.summaries import GraphSummary
from graphnode.storage.tasks import Task

#: What a user has. The parts of a graph, and what belongs to a document, go with their row: the database sees to it.
BELONGINGS: tuple[type[Table], ...] = (
    Graph,
    GraphSummary,
    MicroscopeDocument,
    MicroscopeWorkspace,
    Notification,
    DeviceToken,
    Task,
    TaskAttempt,
    DeletedLetter,
)

#: The columns of a document that name objects in S3.
DOCUMENT_KEYS = (
    MicroscopeDocument.standardized_s3_key,
    MicroscopeDocument.block_graph_s3_key,
    MicroscopeDocument.images_s3_prefix,
)


class ForgottenUser(Table):
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
        return bool(ForgottenUser.select().where(ForgottenUser.user_id == user_id).exists())


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
        ForgottenUser.insert(user_id=user_id, forgotten_at=fn.now()).on_conflict(
            conflict_target=[ForgottenUser.user_id], update={ForgottenUser.forgotten_at: fn.now()}
        ).execute()
    return Forgotten(rows, s3_keys)


def _s3_keys(user_id: str) -> set[str]:
    documents = MicroscopeDocument.select(*DOCUMENT_KEYS).where(MicroscopeDocument.user_id == user_id)
    tasks = Task.select(Task.s3_keys).where(Task.user_id == user_id)
    of_documents = {key for row in documents.tuples().iterator() for key in row if key}
    return of_documents.union(*(keys for (keys,) in tasks.tuples().iterator()))
