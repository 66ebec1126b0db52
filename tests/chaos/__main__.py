"""`python -m tests.chaos`: one run, which ends with one line of JSON. Exit code 1 if anything is wrong."""

from __future__ import annotations

import io
import random
import sys
from functools import partial

import click

from tests.chaos.report import WRONG
from tests.chaos.run import SHORT, Outcome, profile_of, run
from tests.chaos.schedule import KINDS
from tests.chaos.seeds import Kept, keep_seed, read_seeds

#: The most differences that are printed. The folder has all.
SHOWN = 40


@click.command()
@click.option(
    "--minutes", default=10.0, show_default=True, help="Length of the run, approximately; with --fault, of it."
)
@click.option("--short", is_flag=True, help="Use the profile of `make test`: about a minute.")
@click.option("--seed", type=int, help="Seed of the traffic and the faults (default: random).")
@click.option("--fault", type=click.Choice(list(KINDS)), help="Inject only this fault, for --minutes.")
@click.option("--regressions", is_flag=True, help="Repeat all runs in tests/chaos/seeds.txt.")
@click.option("--json", "quiet", is_flag=True, help="Print only the last line.")
def main(minutes: float, short: bool, seed: int | None, fault: str | None, regressions: bool, quiet: bool) -> None:
    """Send results to real workers while things break, then compare every table with the contract's model."""
    drawn = Kept(random.randrange(1_000_000) if seed is None else seed, None if short else minutes, "")
    outcomes = [_run(kept, fault, quiet=quiet) for kept in (read_seeds() if regressions else [drawn])]
    sys.exit(0 if all(outcome.verdict.is_good for outcome in outcomes) else 1)


def _run(kept: Kept, fault: str | None, *, quiet: bool) -> Outcome:
    tell = partial(click.echo, file=io.StringIO() if quiet else None)
    tell(f"seed {kept.seed}")
    profile = SHORT if kept.minutes is None else profile_of(kept.minutes, fault=fault)
    outcome = run(profile, seed=kept.seed, tell=tell)
    if outcome.folder:
        explain = partial(click.echo, err=quiet)
        for line in outcome.verdict.lines[:SHOWN]:
            explain(line)
        if (more := len(outcome.verdict.lines) - SHOWN) > 0:
            explain(f"… and {more} more")
        explain(f"State and logs are in {outcome.folder}. docs/chaos.md explains them.")
        if not fault:
            counts = outcome.verdict.counts
            keep_seed(kept._replace(why=", ".join(f"{kind} {counts[kind]}" for kind in WRONG if counts[kind])))
            explain("The seed was added to tests/chaos/seeds.txt.")
    click.echo(outcome.line)
    return outcome


if __name__ == "__main__":
    main()
