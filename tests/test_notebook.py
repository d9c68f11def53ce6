"""The notebooks run from top to bottom, and are stored with what they show."""

import re
from pathlib import Path

import nbformat
import pytest

from experiments.notebooks import NotebooksOptions, execute, main

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
PICTURES = {"astronomy": 2, "deconvolve": 7, "kernel_gradient": 3}


def outputs(notebook: nbformat.NotebookNode) -> tuple[str, int]:
    """All that was printed, and the number of pictures."""
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    printed = "".join(output.text for output in shown if output.output_type == "stream")
    pictures = [output for output in shown if "image/jpeg" in output.get("data", ())]
    return printed, len(pictures)


def stored(name: str) -> str:
    """What a notebook prints, as it is stored."""
    return outputs(nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4))[0]


def numbers(printed: str, pattern: str) -> list[tuple[float, ...]]:
    """Groups of a pattern, one tuple for each place where it is found."""
    return [tuple(map(float, match.groups())) for match in re.finditer(pattern, printed)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_with_their_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    streams = [output.get("name") for cell in code for output in cell.outputs]
    assert "stderr" not in streams  # no warning, and nothing of this machine
    assert not any("execution" in cell.metadata for cell in code)
    assert outputs(notebook)[1] == PICTURES[path.stem]
    assert path.stat().st_size < 300_000


def test_the_default_model_restores_every_kind_of_blur():
    scores = numbers(stored("deconvolve"), r"'blurred': '([\d.]+) dB', 'restored': '([\d.]+) dB'")
    assert len(scores) == 3
    assert all(restored > blurred + 4.0 for blurred, restored in scores)
    sweeps = [share for (share,) in numbers(stored("deconvolve"), r"sweep \d: ([\d.]+)%")]
    assert sweeps == sorted(sweeps, reverse=True)
    assert sweeps[-1] < 2.0


def test_gradients_agree_with_difference_quotients_and_lead_to_the_truth():
    printed = stored("kernel_gradient")
    slopes = numbers(printed, r"derivative [a-z ]*([\d.e+-]+), difference quotient ([\d.e+-]+)")
    assert len(slopes) == 4
    for derivative, quotient in slopes:
        assert derivative == pytest.approx(quotient, rel=0.1)
    *_, (sigma,) = numbers(printed, r"step \d: sigma ([\d.]+)")
    assert sigma == pytest.approx(2.0, abs=0.02)
    ((sigma,),) = numbers(printed, r"least with sigma ([\d.]+)")
    assert sigma == pytest.approx(2.0, abs=0.2)


def test_stars_are_fitted_separated_and_found():
    printed = stored("astronomy")
    ((fwhm, beta),) = numbers(printed, r"maximum ([\d.]+) pixels .* beta ([\d.]+)")
    assert fwhm == pytest.approx(3.5, abs=0.15)
    assert beta == pytest.approx(3.0, abs=0.5)
    (before,), (after,) = numbers(printed, r"ed: ([\d.]+) of the light in between")
    assert after < 0.8 < before
    (found_before, _), (found_after, count) = numbers(printed, r"(\d+) of (\d+) stars")
    assert found_before <= found_after <= count


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_and_give_what_is_stored(path, tmp_path):
    printed, pictures = outputs(execute(path, tmp_path))
    assert pictures == PICTURES[path.stem]
    is_number = re.compile(r"(-?\d+(?:\.\d+)?(?:e[+-]\d+)?)")
    found, wanted = is_number.split(printed), is_number.split(stored(path.stem))
    assert found[::2] == wanted[::2]  # the words
    for number, expected in zip(found[1::2], wanted[1::2], strict=True):
        assert float(number) == pytest.approx(float(expected), rel=0.05, abs=2e-5)
    assert not list(tmp_path.iterdir())


def write(path: Path, *sources: str) -> None:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


def test_the_program_stores_outputs_but_no_failure(tmp_path, capsys):
    path = tmp_path / "own.ipynb"
    write(path, "x = 2", "print(x + 1)")
    main([str(path)])
    assert outputs(nbformat.read(path, as_version=4))[0] == "3\n"
    assert re.search(r"own\.ipynb: \d+ kB, \d+ s", capsys.readouterr().out)
    write(path, "print(1)", "1 / 0")
    before = path.read_bytes()
    with pytest.raises(SystemExit, match=r"own\.ipynb is left as it was: .* ZeroDivisionError"):
        main([str(path)])
    assert path.read_bytes() == before


def test_bad_options(tmp_path):
    with pytest.raises(ValueError, match="no notebook is named"):
        NotebooksOptions(())
    with pytest.raises(ValueError, match=r"lost\.ipynb is not a notebook"):
        NotebooksOptions((tmp_path / "lost.ipynb",))
    with pytest.raises(ValueError, match="timeout must be at least 1 second, got 0"):
        NotebooksOptions((NOTEBOOKS[0],), timeout=0)
