"""Whether a deployment has what a worker needs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from graphnode.cli.environment import env_file_option, environment_of, file_hint
from graphnode.cli.json_output import echo_json


@click.command()
@click.option("--processes", type=click.IntRange(min=1), help="Worker processes on all machines together.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of each process; their connections are counted.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as a JSON array.")
@env_file_option
def doctor(processes: int | None, threads: int | None, as_json: bool, env_file: Path | None) -> None:
    """Check everything that a worker needs, and say what is wrong and what mends it.

    Checks the settings, the database, the queues, the bucket, the permissions, FCM and the clock. Changes nothing and
    sends nothing. Exit code 0: all is well; 1: warnings; 2: the worker does not start, or cannot do its work.
    """
    import msgspec

    from graphnode.cli.doctor_report import report
    from graphnode.operations.doctor.deployment import examine_deployment
    from graphnode.operations.doctor.findings import worst

    findings = examine_deployment(
        environment_of(env_file),
        processes=processes,
        threads=threads,
        on_slow=lambda names: click.echo(f"Waiting for {', '.join(names)} …", err=True),
    )
    if as_json:
        rows = [{**msgspec.structs.asdict(found), "severity": found.severity.name.lower()} for found in findings]
        echo_json(rows)
    else:
        click.echo("\n".join(report(findings)))
    if hint := file_hint(" ".join(found.what for found in findings)):
        click.echo(hint, err=True)
    sys.exit(worst(findings))
