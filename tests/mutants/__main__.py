"""`python -m tests.mutants`: tries every mutant in the catalogue, and names the check that caught it."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten

import click

from tests.mutants.catalogue import CATALOGUE, OutdatedMutant
from tests.mutants.run import CAUGHT, ChecksFail, Outcome, try_all

REPOSITORY = Path(__file__).resolve().parents[2]

#: The most characters of a test's message that are printed.
MESSAGE_CHARACTERS = 140


@click.command()
@click.option("--only", "names", multiple=True, metavar="NAME", help="Try only this mutant; may be repeated.")
@click.option("--jobs", default=2, show_default=True, help="The number of mutants to try at the same time.")
@click.option("--json", "as_json", is_flag=True, help="Print only one JSON object at the end.")
def main(names: Sequence[str], jobs: int, as_json: bool) -> None:
    """Break one promise of the worker after the other in a copy of the repository. Each time, a check must fail."""
    if unknown := set(names) - {mutant.name for mutant in CATALOGUE}:
        raise click.UsageError(f"tests/mutants/catalogue.py has no mutant {', '.join(sorted(unknown))}.")
    chosen = [mutant for mutant in CATALOGUE if not names or mutant.name in names]
    began, outcomes = time.monotonic(), list[Outcome]()
    try:
        if not as_json:
            click.echo(f"Running the checks of {len(chosen)} mutants on the unchanged code …")
        for outcome in try_all(REPOSITORY, chosen, jobs=jobs):
            outcomes.append(outcome)
            if not as_json:
                click.echo(lines(outcome))
    except (OutdatedMutant, ChecksFail) as error:
        raise click.ClickException(f"{type(error).__doc__}\n{error}") from None
    if as_json:
        click.echo(json.dumps({"mutants": [outcome._asdict() for outcome in outcomes]}))
    else:
        click.echo(summary(outcomes, seconds=time.monotonic() - began))
    sys.exit(any(outcome.verdict not in CAUGHT for outcome in outcomes))


def lines(outcome: Outcome) -> str:
    """An outcome as printed text."""
    first = f"\n{outcome.verdict:<10} {outcome.name} ({outcome.seconds:.0f} s): {outcome.what}"
    message = shorten(outcome.message, MESSAGE_CHARACTERS, placeholder=" …")
    return "\n".join([first, *(f"{'':10} {line}" for line in (outcome.check, message) if line)])


def summary(outcomes: Sequence[Outcome], *, seconds: float) -> str:
    """The number of mutants by verdict, as printed text."""
    counted = Counter(outcome.verdict for outcome in outcomes)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in counted.items())
    return f"\n{len(outcomes)} mutants in {seconds:.0f} s: {counts}."


if __name__ == "__main__":
    main()
