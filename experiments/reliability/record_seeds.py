"""Good configurations and results, for the fuzzer to damage."""

import json
from pathlib import Path

from experiments.train import config_text
from glra_jax.training.presets import PRESETS

RECORDS_CONFIG = {"methods": [{"label": "blurred", "kind": "blurred"}], "seed": 0}


def results(path: Path) -> None:
    """The results of an evaluation of one image by one method."""
    record = {
        **{"image": "a", "method": "blurred", "correction": "as it is"},
        **{"psnr": 21.5, "ssim": 0.5, "ssim_volume": 0.6, "seconds": 0.1},
    }
    path.write_text(json.dumps({**_results(), "records": [record]}, indent=1))


def _results() -> dict[str, object]:
    config = {
        **{"data": "embedded", "kernel": "gaussian", "protocol": "paper", "noise": 0.01},
        **{"seed": 0, "margin": 4, "subtract": 0.0, "triplets": None, "dataset": "embedded"},
        "split": "test",
        "methods": [{"label": "blurred", "kind": "blurred", "leak": "none", "sha256": None}],
    }
    case = {"image": "a", "photograph": None, "family": None, "gain": None, "shape": [24, 32]}
    return {
        "format": "glra_jax-evaluation-1",
        "config": config,
        "machine": {"cpu": "some"},
        "cases": [case],
        "failures": [],
        "reused": {},
    }


def records(path: Path) -> None:
    """Scores of an evaluation that was interrupted."""
    record = {
        **{"image": "a", "method": "blurred", "correction": "as it is"},
        **{"psnr": 21.5, "ssim": 0.5, "ssim_volume": 0.6, "seconds": 0.1},
    }
    line = {"image": "a", "method": "blurred", "case_sha256": "0" * 64, "records": [record]}
    path.write_text(f"{json.dumps({'config': RECORDS_CONFIG})}\n{json.dumps(line)}\n")


def metrics(path: Path) -> None:
    """Metrics of a training run."""
    rows = [f"{step},{1 / step},{20 + step / 10},0.001,{step / 7:.2f}" for step in range(1, 9)]
    path.write_text("step,loss,psnr,learning_rate,seconds\n" + "\n".join(rows) + "\n")


def config(path: Path) -> None:
    """The configuration of a training run."""
    path.write_text(config_text(PRESETS["smoke"]))


def reference(path: Path) -> None:
    """The losses of another training run."""
    import numpy as np

    np.savez(path, training_loss=np.geomspace(100.0, 1.0, 200))


TUNED_BY = {"seed": 0, "photographs": "train"}


def tuned(path: Path) -> None:
    """An unfinished tuning run."""
    path.write_text(json.dumps({"made_by": TUNED_BY, "chosen": {}, "scores": {}}))
