"""The settings as a process sees them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from graphnode.cli.environment import env_file_option, file_hint


@click.command()
@click.option("--markdown", "as_markdown", is_flag=True, help="Print docs/settings.md instead.")
@env_file_option
def settings(as_markdown: bool, env_file: Path | None) -> None:
    """Show each setting: where its value comes from, and the value unless it is a secret.

    Exit code 1: a setting is missing or wrong. docs/settings.md says what each does, and when to change it.
    """
    from graphnode.operations.env_file import read_env_file
    from graphnode.operations.settings_guide import HEADINGS, markdown, shown_settings
    from graphnode.settings import Settings, environment_name, examine_settings

    if as_markdown:
        click.echo(markdown(), nl=False)
        return
    file = read_env_file(env_file) if env_file else {}
    for shown in shown_settings(os.environ, file):
        if shown.field in HEADINGS:
            click.echo(HEADINGS[shown.field])
        click.echo(f"  {environment_name(shown.field):<30}  {shown.source:<11}  {shown.value}".rstrip())
    _, faults = examine_settings({**os.environ, **file}, Settings)
    for line in filter(None, [*faults, file_hint(" ".join(faults))]):
        click.echo(line, err=True)
    sys.exit(1 if faults else 0)
