"""The notebook runs from top to bottom, and shows what it says."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import nbformat
import pytest
from nbclient import NotebookClient

import glra_jax as gx

NOTEBOOK = Path(__file__).parents[1] / "examples" / "deconvolve.ipynb"


def execute(folder: Path) -> nbformat.NotebookNode:
    """Runs the notebook in a kernel of its own; an exception in a cell is raised here."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    return client.execute()


def outputs(notebook: nbformat.NotebookNode) -> tuple[str, int]:
    """All that was printed, and the number of pictures."""
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    printed = "".join(output.text for output in shown if output.output_type == "stream")
    pictures = [output for output in shown if "image/png" in output.get("data", ())]
    return printed, len(pictures)


def decibels(printed: str) -> dict[str, dict[str, float]]:
    """PSNR by kernel and method."""
    lines = re.findall(r"^(\w+) \{(.*dB.*)\}$", printed, flags=re.MULTILINE)
    return {
        name: {method: float(x) for method, x in re.findall(r"'([^']+)': '([\d.]+) dB'", scores)}
        for name, scores in lines
    }


def check(printed: str, pictures: int, gain: float) -> None:
    """Every method on every kernel, better than the blurred photograph by so many decibels."""
    assert pictures == 8
    scores = decibels(printed)
    assert list(scores) == ["Gaussian", "disk", "motion"]
    for name, psnr in scores.items():
        assert list(psnr) == ["blurred", "linear alone", "restored"]
        assert psnr["restored"] > psnr["blurred"] + gain, name
    # The cells themselves compare these derivatives with difference quotients.
    assert printed.count("difference quotient") == 3
    found = re.search(r"the error is least with sigma ([\d.]+)", printed)
    assert found
    assert float(found[1]) == pytest.approx(2.0, abs=0.5)


def test_notebook_is_committed_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    assert NOTEBOOK.stat().st_size < 30_000


@pytest.mark.slow
def test_notebook_as_it_is(tmp_path, monkeypatch):
    """With a basis fitted on 150 kernels, and the network at its real size."""
    monkeypatch.delenv("GLRA_JAX_MODEL", raising=False)
    printed, pictures = outputs(execute(tmp_path))
    assert "Glra(support=151, rank=60, features=128, " in printed
    outside = re.search(r"outside the bases: ([\d.]+)% of all kernels' energy", printed)
    assert outside
    assert float(outside[1]) < 0.5
    check(printed, pictures, gain=2.0)


@pytest.mark.slow
def test_notebook_with_a_model_of_ones_own(tmp_path, monkeypatch):
    basis = gx.Basis(jnp.eye(41), jnp.eye(41))  # complete: nothing is lost
    path = tmp_path / "model.safetensors"
    model = gx.initial_model(jax.random.key(0), gx.Glra(41, 41, 13), basis)
    gx.save_model(model, path)
    monkeypatch.setenv("GLRA_JAX_MODEL", str(path))
    printed, pictures = outputs(execute(tmp_path))
    assert "Glra(support=41, rank=41, features=13, " in printed
    check(printed, pictures, gain=0.5)  # the support is short for a motion kernel
