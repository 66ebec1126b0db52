"""`python -m chaos`: one run, which ends with one line of JSON; exit code 1 when anything is wrong."""

from __future__ import annotations

import io
import random
import sys
from functools import partial

import click

from chaos.run import SHORT, profile_of, run

#: Differences that are shown; the folder has all.
SHOWN = 40


@click.command()
@click.option("--minutes", default=10.0, show_default=True, help="How long it takes, about.")
@click.option("--short", is_flag=True, help="The profile of `make test`: about a minute.")
@click.option("--seed", type=int, help="Which traffic and which faults; without it, any.")
@click.option("--json", "quiet", is_flag=True, help="The last line only.")
def main(minutes: float, short: bool, seed: int | None, quiet: bool) -> None:
    """Send results to real workers while things break, then compare every table with the contract's model."""
    seed = random.randrange(1_000_000) if seed is None else seed
    tell = partial(click.echo, file=io.StringIO() if quiet else None)
    tell(f"seed {seed}")
    outcome = run(SHORT if short else profile_of(minutes), seed=seed, tell=tell)
    if outcome.folder:
        explain = partial(click.echo, err=quiet)
        for line in outcome.verdict.lines[:SHOWN]:
            explain(line)
        if more := len(outcome.verdict.lines) - SHOWN:
            explain(f"… and {more} more" if more > 0 else "")
        explain(f"State and logs are in {outcome.folder}; docs/chaos.md says how to read them.")
    click.echo(outcome.line)
    sys.exit(1 if outcome.folder else 0)


if __name__ == "__main__":
    main()
