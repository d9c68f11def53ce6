"""Command line: `glra-jax deblur PHOTO KERNEL -o OUT`."""

import tyro

from glra_jax.commands.deblur import deblur
from glra_jax.commands.deblur_options import Deblur
from glra_jax.model_files import DEFAULT_MODEL
from glra_jax.programs import program

__all__ = ["DEFAULT_MODEL", "Deblur", "main"]


def main(arguments: list[str] | None = None) -> None:
    """Runs the program; errors of the user's making are one line and exit status 1."""
    with program("glra-jax", also=(TypeError,)):
        command = tyro.extras.subcommand_cli_from_dict(
            {"deblur": Deblur},
            prog="glra-jax",
            description="Non-blind image deconvolution by generalized low-rank approximation.",
            args=arguments,
        )
        deblur(command)


if __name__ == "__main__":
    main()
