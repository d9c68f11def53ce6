"""Training curves: means over stretches, the authors' file, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from experiments.curves import main, mean_curve, read_reference, read_run


def write_run(folder, rows):
    folder.mkdir()
    lines = ["step,loss,psnr,learning_rate,seconds", *rows]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_every_step_counts_once():
    steps = np.arange(1, 201)
    losses = np.random.default_rng(0).random(200)
    whole = mean_curve("a", steps, steps / 3600, losses, points=1)
    assert whole.losses == pytest.approx([losses.mean()])
    assert whole.steps == pytest.approx([100.5])
    fine = mean_curve("a", steps, steps / 3600, losses, points=10_000)
    np.testing.assert_array_equal(fine.losses, losses)
    some = mean_curve("a", steps, steps / 3600, losses, points=12)
    assert some.losses[0] == losses[0]
    last = steps > 200 ** (11 / 12)
    assert some.losses[-1] == pytest.approx(losses[last].mean())
    assert (np.diff(some.steps) > 0).all()


def test_runs_and_the_authors_curve_share_a_picture(tmp_path, capsys):
    run = write_run(tmp_path / "mine", ["10,50,20,1e-3,36", "20,40,21,1e-3,72", "30,3"])
    curve = read_run(run, points=40)
    np.testing.assert_array_equal(curve.steps, [10, 20])
    np.testing.assert_allclose(curve.hours, [0.01, 0.02])
    np.testing.assert_array_equal(curve.losses, [50, 40])

    reference = tmp_path / "reference.npz"
    np.savez(reference, training_loss=np.linspace(90, 30, 1000, dtype=np.float32))
    theirs = read_reference(reference, points=1)
    assert theirs.losses == pytest.approx([60])
    assert theirs.hours == pytest.approx([15.015])

    picture = tmp_path / "curves.png"
    main(["--runs", str(run), "-o", str(picture), "--reference", str(reference)])
    assert "mine: 40.0 at the end, step 20" in capsys.readouterr().out
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    assert (pixels != 255).any(axis=2).mean() > 0.01
    with pytest.raises(SystemExit, match="exists"):
        main(["--runs", str(run), "-o", str(picture)])


def test_what_is_refused(tmp_path):
    target = str(tmp_path / "c.png")
    with pytest.raises(SystemExit, match=r"metrics\.csv is missing"):
        main(["--runs", str(tmp_path), "-o", target])
    empty = write_run(tmp_path / "empty", [])
    with pytest.raises(SystemExit, match="no whole row"):
        main(["--runs", str(empty), "-o", target])
    run = write_run(tmp_path / "run", ["10,50,20,1e-3,36"])
    other = tmp_path / "other.npz"
    np.savez(other, left=np.zeros(3))
    with pytest.raises(SystemExit, match=r"\['left'\].*training_loss"):
        main(["--runs", str(run), "-o", target, "--reference", str(other)])
    with pytest.raises(SystemExit, match="points must be at least 2, got 1"):
        main(["--runs", str(run), "-o", target, "--points", "1"])
