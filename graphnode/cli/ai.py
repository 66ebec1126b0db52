"""The stand-in AI server."""

from __future__ import annotations

import os
from pathlib import Path

import click

from graphnode.cli.environment import env_file_option, environment_of


def _list_odd_sides(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    """Print the odd sides, and exit."""
    from graphnode.dev.ai.odd import SIDES

    if wanted:
        for name, side in SIDES.items():
            click.echo(f"{name:<16} {side.about}" + (f" ({side.share:g} of the rate)" if side.share < 1 else ""))
        context.exit()


@click.command()
@click.option("--odd", type=click.FloatRange(0, 1), default=0, help="The share of tasks that show each odd side.")
@click.option("--seed", type=int, default=0, show_default=True, help="Selects these tasks, the same for a seed.")
@click.option("--side", "sides", multiple=True, metavar="NAME", help="Show only this odd side; may be repeated.")
@click.option(
    "--list-sides",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_odd_sides,
    help="List the odd sides, and exit.",
)
@click.option("--threads", type=click.IntRange(1, 64), default=2, show_default=True, help="Requests at the same time.")
@env_file_option
def ai(odd: float, seed: int, sides: tuple[str, ...], threads: int, env_file: Path | None) -> None:
    """Stand in for the AI server until Ctrl-C: take requests, and answer from their real input.

    It builds a small graph from words, not from meaning: TF-IDF, truncated SVD and k-means. docs/ai.md explains it.
    """
    from graphnode.dev.ai.odd import Odd
    from graphnode.settings import AiSettings, read_settings
    from graphnode.telemetry.logs import configure_logs

    environment = environment_of(env_file)
    known = read_settings(environment, AiSettings)
    configure_logs(known)
    sides_of = Odd(rate=odd, seed=seed, names=sides)

    from graphnode.dev.ai.server import run

    # boto3 looks for credentials in this process's own environment.
    os.environ.update(environment)
    run(known, odd=sides_of, threads=threads)
