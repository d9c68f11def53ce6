"""What was measured of each method in a column: quality, and time for each megapixel."""

from dataclasses import dataclass

import numpy as np

from experiments.evaluation.results import Results
from experiments.evaluation.scores import AS_IT_IS, Interval, summarize


@dataclass(frozen=True)
class Measured:
    """One method on the cases of a column.

    Attributes:
      label: as it is given on the command line.
      kind: see `experiments.evaluation.methods.Method`.
      psnr: mean in dB, with its interval over photographs.
      ssim: mean, likewise.
      seconds: for each megapixel, the median of the cases; 0 for the blurred image.
    """

    label: str
    kind: str
    psnr: Interval
    ssim: Interval
    seconds: float


def measured_methods(results: Results) -> list[Measured]:
    """Methods of an evaluation that restored every image, in its order.

    Times are medians, because a program that shares the machine delays some images and not others.
    """
    kinds = {method["label"]: method["kind"] for method in results.config["methods"]}
    megapixels = {c["image"]: c["shape"][0] * c["shape"][1] / 1e6 for c in results.cases}
    records = [record for record in results.comparable if record.correction == AS_IT_IS]
    found = []
    for row in summarize(records, results.photographs):
        times = [r.seconds / megapixels[r.image] for r in records if r.method == row.method]
        seconds = float(np.median(times))
        found.append(Measured(row.method, kinds[row.method], row.psnr, row.ssim, seconds))
    return found
