"""`graphnode dlq`: list and show dead letters, redrive, export, import and delete them."""

from __future__ import annotations

from typing import Any

import click
from botocore.exceptions import ClientError

from graphnode.cli.dead_letters import delete, export_import, list_show, redrive
from graphnode.errors import one_line


class AwsCommands(click.Group):
    """Commands that AWS may refuse."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command. Of a missing permission it says where the permissions are listed."""
        from graphnode.operations.doctor.aws_answers import is_denied

        try:
            return super().invoke(context)
        except ClientError as error:
            if not is_denied(error):
                raise
            raise click.ClickException(
                f"AWS refuses {error.operation_name}: {one_line(error)} "
                "(docs/dead-letters.md lists the permissions that these commands need)"
            ) from None


@click.group(cls=AwsCommands)
def dlq() -> None:
    """List and show dead letters, redrive, export, import and delete them.

    Queues and region come from the environment. DATABASE_URL and S3_PAYLOAD_BUCKET are optional and add details. While
    a command reads a queue, its letters are hidden from other readers; afterwards all are visible again, also after
    Ctrl-C.
    """


for command in (
    list_show.list_,
    list_show.show,
    redrive.redrive,
    export_import.export,
    export_import.import_,
    delete.delete,
):
    dlq.add_command(command)
