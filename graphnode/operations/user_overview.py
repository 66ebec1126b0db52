"""A user's data at a glance: graph, tasks, documents, workspaces, notifications, devices. Nothing of it is large."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from peewee import fn

from graphnode.storage.database import snapshot
from graphnode.storage.graphs import ClusterRecord, GraphRecord
from graphnode.storage.microscope import DocumentRecord, WorkspaceRecord
from graphnode.storage.notifications import DeviceTokenRecord, NotificationRecord
from graphnode.storage.summaries import SummaryRecord
from graphnode.storage.users import ForgottenUserRecord

#: The most rows of each table that are read.
MOST = 20


class UserGraph(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `graphs`."""

    status: str
    node_count: int | None
    edge_count: int | None
    cluster_count: int | None
    generated_at: datetime | None
    updated_at: datetime | None


class UserNotification(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `notifications`."""

    id: str
    created_at: datetime
    type: str
    payload: dict[str, Any]
    push_status: str
    push_error: str | None


class UserDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `microscope_documents`."""

    id: str
    workspace_id: str | None
    status: str
    file_name: str | None
    error: str | None
    updated_at: datetime | None


class UserWorkspace(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `microscope_workspaces`."""

    id: str
    name: str | None
    completed_at: datetime | None


class UserOverview(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of a user; lists have the newest `MOST` rows.

    Parameters:
      graph: None without a row in `graphs`.
      clusters: names and sizes, the largest first.
      forgotten_at: when the user's data was deleted; it may have come back since.
    """

    user_id: str
    graph: UserGraph | None
    clusters: list[tuple[str, int]]
    has_summary: bool
    notifications: list[UserNotification]
    documents: list[UserDocument]
    workspaces: list[UserWorkspace]
    devices: int
    forgotten_at: datetime | None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is stored."""
        return not (self.graph or self.has_summary or self.notifications or self.documents or self.workspaces)


def user_overview(user_id: str) -> UserOverview:
    """What is stored of a user, all at one moment."""
    with snapshot():
        graph = GraphRecord.get_or_none(GraphRecord.user_id == user_id)
        clusters = (
            ClusterRecord.select(fn.coalesce(ClusterRecord.name, ClusterRecord.id), fn.coalesce(ClusterRecord.size, 0))
            .where(ClusterRecord.user_id == user_id)
            .order_by(ClusterRecord.size.desc())
            .limit(MOST)
        )
        return UserOverview(
            user_id=user_id,
            graph=msgspec.convert(graph, UserGraph, from_attributes=True) if graph else None,
            clusters=list(clusters.tuples().iterator()),
            has_summary=SummaryRecord.select().where(SummaryRecord.user_id == user_id).exists(),
            notifications=_newest(NotificationRecord, user_id, "id", UserNotification),
            documents=_newest(DocumentRecord, user_id, "updated_at", UserDocument),
            workspaces=_newest(WorkspaceRecord, user_id, "created_at", UserWorkspace),
            devices=DeviceTokenRecord.select().where(DeviceTokenRecord.user_id == user_id).count(),
            forgotten_at=ForgottenUserRecord.select(ForgottenUserRecord.forgotten_at)
            .where(ForgottenUserRecord.user_id == user_id)
            .scalar(),
        )


def _newest(table: Any, user_id: str, time: str, kind: Any) -> list[Any]:
    field = table._meta.fields[time]
    # An index has the order of a primary key, whose values are never missing.
    order = field.desc() if field.primary_key else field.desc(nulls="LAST")
    query = table.select().where(table.user_id == user_id).order_by(order).limit(MOST)
    return [msgspec.convert(row, kind, from_attributes=True) for row in query]
