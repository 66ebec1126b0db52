"""The stand-in AI server."""

from __future__ import annotations

import os
from pathlib import Path

import click

from graphnode.cli.environment import env_file_option, environment_of


def _list_faults(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    """Print the faults and exit."""
    from graphnode.dev.ai.fault_injection import FAULTS

    if wanted:
        for name, fault in FAULTS.items():
            click.echo(f"{name:<16} {fault.about}" + (f" ({fault.share:g} of the rate)" if fault.share < 1 else ""))
        context.exit()


@click.command()
@click.option("--odd", type=click.FloatRange(0, 1), default=0, help="For each fault, the share of tasks that have it.")
@click.option("--seed", type=int, default=0, show_default=True, help="Selects the tasks with faults.")
@click.option("--side", "sides", multiple=True, metavar="NAME", help="Inject only this fault. Can be repeated.")
@click.option(
    "--list-sides",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_faults,
    help="List the faults and exit.",
)
@click.option(
    "--threads", type=click.IntRange(1, 64), default=2, show_default=True, help="Requests handled at the same time."
)
@env_file_option
def ai(odd: float, seed: int, sides: tuple[str, ...], threads: int, env_file: Path | None) -> None:
    """Run a stand-in AI server until Ctrl-C. It answers requests from their real input.

    Its graph is small and built from words, not meaning: TF-IDF, truncated SVD, k-means. docs/ai.md describes it.
    """
    from graphnode.dev.ai.fault_injection import FaultInjection
    from graphnode.settings import AiSettings, read_settings
    from graphnode.telemetry.logs import configure_logs

    environment = environment_of(env_file)
    known = read_settings(environment, AiSettings)
    configure_logs(known)
    faults = FaultInjection(rate=odd, seed=seed, names=sides)

    from graphnode.dev.ai.server import run

    # boto3 reads credentials from this process's environment.
    os.environ.update(environment)
    run(known, faults=faults, threads=threads)
