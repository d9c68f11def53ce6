"""Command line: `glra-jax deblur PHOTO KERNEL -o OUT`, `glra-jax kernel SHAPE -o OUT`, and more."""

import functools
import operator
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from glra_jax.commands.deblur import deblur
from glra_jax.commands.deblur_options import Deblur
from glra_jax.commands.demo import Demo, show_demo
from glra_jax.commands.kernel import make_kernel
from glra_jax.commands.kernel_shapes import SHAPES, KernelShape
from glra_jax.model_files import DEFAULT_MODEL
from glra_jax.programs import program

__all__ = ["DEFAULT_MODEL", "Deblur", "main"]

if TYPE_CHECKING:
    _Shape = KernelShape
else:
    _Shape: Any = functools.reduce(
        operator.or_,
        (Annotated[shape, tyro.conf.subcommand(name)] for name, shape in SHAPES.items()),
    )


def _kernel(
    shape: tyro.conf.OmitArgPrefixes[tyro.conf.OmitSubcommandPrefixes[_Shape]],
) -> KernelShape:
    """Makes a file of a blur kernel."""
    return shape


def main(arguments: list[str] | None = None) -> None:
    """Runs the program; errors of the user's making are one line and exit status 1."""
    with program("glra-jax", also=(TypeError,)):
        command = tyro.extras.subcommand_cli_from_dict(
            {"deblur": Deblur, "kernel": _kernel, "demo": Demo},
            prog="glra-jax",
            description="Non-blind image deconvolution by generalized low-rank approximation.",
            args=arguments,
        )
        if isinstance(command, KernelShape):
            make_kernel(command)
        elif isinstance(command, Demo):
            show_demo(command)
        else:
            deblur(command)


if __name__ == "__main__":
    main()
