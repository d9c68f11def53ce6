"""Makes faults on purpose and counts what comes of them."""

import sys

import tyro

from experiments.reliability.fuzz import Fuzz, fuzz
from experiments.reliability.kills import Kills, kill_again_and_again
from experiments.reliability.training_faults import Faults, make_faults
from glra_jax.programs import program


def main(arguments: list[str] | None = None) -> None:
    """Runs the program; exit status 1 where a fault was not dealt with."""
    with program("error"):
        options = tyro.extras.subcommand_cli_from_dict(
            {"fuzz": Fuzz, "kills": Kills, "faults": Faults},
            prog="python -m experiments.reliability",
            description="Makes faults on purpose and counts what comes of them.",
            args=arguments,
        )
        if _faults(options):
            sys.exit(1)


def _faults(options: Fuzz | Kills | Faults) -> list[str]:
    if isinstance(options, Fuzz):
        return fuzz(options).faults
    if isinstance(options, Kills):
        return kill_again_and_again(options).faults
    return make_faults(options).faults


if __name__ == "__main__":
    main()
