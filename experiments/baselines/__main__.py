"""Prints what baselines there are: `python -m experiments.baselines`."""

from experiments.baselines import BASELINES
from experiments.evaluation.markdown import format_table

_HEAD = ("name", "method", "frame", "tuned", "reference")


def main() -> None:
    """Prints a row for each baseline."""
    rows = [
        (
            f"`{baseline.name}`",
            baseline.description,
            ", ".join(f"`{boundary}`" for boundary in baseline.boundaries),
            f"`{baseline.tuning.parameter}`",
            baseline.reference,
        )
        for baseline in BASELINES.values()
    ]
    print(format_table(_HEAD, rows))


if __name__ == "__main__":
    main()
