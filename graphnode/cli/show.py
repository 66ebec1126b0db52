"""`graphnode show`: a user's stored graph in the terminal or as a picture."""

from __future__ import annotations

from pathlib import Path

import click

from graphnode.cli.environment import env_file_option, environment_of, open_database

PICTURE = click.Path(dir_okay=False, writable=True, path_type=Path)


@click.command()
@click.argument("user")
@click.option("--svg", "svg_file", type=PICTURE, help="Draw the graph into this SVG file.")
@click.option("--html", "html_file", type=PICTURE, help="Draw the graph into this HTML page, to explore it.")
@env_file_option
def show(user: str, svg_file: Path | None, html_file: Path | None, env_file: Path | None) -> None:
    """Show the stored graph of USER: status, counts, clusters and their keywords, the newest notifications.

    With --svg or --html, draw the graph instead. Similar nodes are close together; each cluster has a colour and a
    name. Each file needs no other file and follows the reader's light or dark scheme; only you may read it. The same
    graph always gives the same picture.
    """
    from graphnode.storage.schema import check_schema

    for option, file in {"--svg": svg_file, "--html": html_file}.items():
        if file and not file.parent.is_dir():
            raise click.BadParameter(f"there is no directory {file.parent}.", param_hint=option)
    with open_database(environment_of(env_file)):
        check_schema()
        if svg_file or html_file:
            _draw(user, svg_file, html_file)
        else:
            _print(user)


def _print(user: str) -> None:
    from rich.console import Console

    from graphnode.operations.show.overview import overview
    from graphnode.operations.show.stored_graph import read_overview

    Console(highlight=False).print(overview(read_overview(user)))


def _draw(user: str, svg_file: Path | None, html_file: Path | None) -> None:
    from graphnode.operations.show.drawing_svg import counts, svg
    from graphnode.operations.show.page import page
    from graphnode.operations.show.picture import compose
    from graphnode.operations.show.stored_graph import read_graph
    from graphnode.private import write_private

    picture = compose(read_graph(user))
    for file, drawing in ((svg_file, svg), (html_file, page)):
        if file:
            write_private(file, drawing(picture).encode())
            click.echo(f"{file}: {counts(picture)}")
