"""The message contract, as files for other languages."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def contract() -> None:
    """The message contract: JSON Schemas, an AsyncAPI document, TypeScript types."""


@contract.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def export(directory: Path) -> None:
    """Write the contract's files into DIRECTORY. This project keeps them in `contract`."""
    from graphnode.contract.schemas.export import export as write_files

    for path in write_files(directory):
        click.echo(f"changed {path}")
    click.echo(f"The contract in {directory} is up to date.")
