"""Makes faults on purpose and counts what comes of them."""

import sys

import tyro

from experiments.reliability.fuzz import Fuzz, fuzz
from experiments.reliability.kills import Kills, kill_again_and_again
from glra_jax.programs import program


def main(arguments: list[str] | None = None) -> None:
    """Runs the program; exit status 1 where a fault was not dealt with."""
    with program("error"):
        options = tyro.extras.subcommand_cli_from_dict(
            {"fuzz": Fuzz, "kills": Kills},
            prog="python -m experiments.reliability",
            description="Makes faults on purpose and counts what comes of them.",
            args=arguments,
        )
        tally = fuzz(options) if isinstance(options, Fuzz) else kill_again_and_again(options)
        if tally.faults:
            sys.exit(1)


if __name__ == "__main__":
    main()
