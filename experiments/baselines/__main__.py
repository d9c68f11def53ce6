"""Prints what baselines there are: `python -m experiments.baselines`."""

from experiments.baselines import AUTHORS_NETWORKS, BASELINES
from experiments.evaluation.markdown import format_table

_HEAD = ("name", "method", "frame", "tuned", "reference")
_NETWORKS_HEAD = ("name", "network", "frame", "file of weights", "reference")


def main() -> None:
    """Prints a row for each baseline, and a second table of the networks."""
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
    networks = [
        (
            f"`{network.name}`",
            network.description,
            ", ".join(f"`{boundary}`" for boundary in network.boundaries),
            f"`{network.file}`, {network.license}",
            network.reference,
        )
        for network in AUTHORS_NETWORKS.values()
    ]
    print(f"{format_table(_HEAD, rows)}\n\n{format_table(_NETWORKS_HEAD, networks)}")


if __name__ == "__main__":
    main()
