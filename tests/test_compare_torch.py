"""The comparison with PyTorch, at a small size, and its PyTorch network against NumPy."""

import csv
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
from caffe_files import net_bytes, random_layers

import glra_jax as gx
from experiments import compare_torch
from experiments.evaluation.model_files import read_model
from experiments.torch_comparison import sides as torch_sides
from experiments.torch_comparison.report import Row
from glra_jax import interop

torch = pytest.importorskip("torch")
from experiments.torch_comparison import reference as torch_reference  # noqa: E402

# Nearly all the time goes into compiling: the program runs once for all tests of its report, with
# blur kernels that compile quickly, and a network as small as their default sizes allow.
GAUSSIAN = gx.KernelFamilies(families=("gaussian",))
SUPPORT, RANK, FEATURES = 27, 3, 4
SMALL = {"steps": 3, "batch": 2, "patch": 40}
CORES = "cores of 8 kernels, relative"
SETTINGS = {"regularization": 0.005, "noise_weight": 40.0}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """PyTorch's threads wait for each other far longer than they compute at these sizes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def basis():
    """Low frequencies, which need no fit."""
    cosines = scipy.fft.dct(np.eye(SUPPORT), norm="ortho")[:, :RANK]
    return gx.Basis(*(jnp.asarray(cosines, jnp.float32),) * 2)


@pytest.fixture(scope="module")
def weights(basis, tmp_path_factory):
    """A file of random weights, as a PyTorch user has it."""
    left, right = (torch.from_numpy(np.array(side)) for side in basis)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torch_reference.DeconvNet(left, right, features=FEATURES)
    path = tmp_path_factory.mktemp("weights") / "network.pt"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def model_file(weights):
    """The same weights as a model with all settings of its pseudo-inverse."""
    path = weights.with_suffix(".safetensors")
    gx.save_model(interop.load_torch_model(weights, inverse=gx.Inverse(**SETTINGS)), path)
    return path


@pytest.fixture(scope="module")
def run(model_file, tmp_path_factory):
    """The folder that the program writes, the rows that it returns, and its batches."""
    folder = tmp_path_factory.mktemp("runs") / "compare"
    made = []

    def remember(config, basis, make=compare_torch.photograph_batches):
        made.extend(make(config, basis))
        return made

    def with_gaussians(options, sizes, make=compare_torch.CompareOptions.train_config):
        return replace(make(options, sizes), kernels=GAUSSIAN)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare_torch, "photograph_batches", remember)
        patch.setattr(compare_torch.CompareOptions, "train_config", with_gaussians)
        rows = compare_torch.run(
            compare_torch.CompareOptions(output=folder, weights=str(model_file), **SMALL)
        )
    return folder, rows, made


@pytest.fixture(scope="module")
def report(run):
    """The folder, and the rows by precision and quantity."""
    folder, rows, _ = run
    return folder, {(row.precision, row.quantity): row for row in rows}


def test_differences_are_within_their_bounds(report):
    _, rows = report
    bounded = {key: row for key, row in rows.items() if row.bound is not None}
    assert {key: row.bound for key, row in bounded.items()} == {
        ("float32", CORES): 1e-4,
        ("float32", "output"): 1e-5,
        ("float32", "gradient, relative by layer"): 1e-4,
        ("float64", CORES): 1e-10,
        ("float64", "output"): 1e-12,
        ("float64", "gradient, relative by layer"): 1e-10,
    }
    for key, row in bounded.items():
        assert 0 < row.difference < row.bound, key
        if key[1] != CORES:
            assert row.jax_seconds > 0, key
            assert row.torch_seconds > 0, key
    for quantity, bound in compare_torch.BOUNDS["float32"].items():
        for side in ("JAX", "PyTorch"):
            assert 0 < rows["float32", f"{quantity}: {side} from float64"].difference < bound


def test_training_takes_the_same_way(report):
    _, rows = report
    after = "weights after 3 steps of"
    # A step moves a weight by about the learning rate, 1e-4.
    assert rows["float32", f"{after} Adam"].difference < 2e-6
    assert rows["float32", f"{after} AdamW"].difference < 2e-6
    assert rows["float64", f"{after} AdamW"].difference < 1e-11
    # Here the library's schedule gives the learning rate as a float32, off by up to 6e-8.
    assert rows["float64", f"{after} Adam"].difference < 1e-8
    # Which one it is matters far more than that.
    for precision in ("float32", "float64"):
        apart = rows[precision, "for scale: Adam from AdamW, both JAX"]
        assert apart.difference > 1e-5
        assert apart.typical > 100 * rows[precision, f"{after} Adam"].typical


def test_difference_of_weights():
    a = {"x": np.float32([1, 2]), "y": np.float32([[0, 0, 4]])}
    b = {"y": np.float32([[0, 3, 0]]), "x": np.float32([1, 2])}
    assert compare_torch.difference(a, b) == (4.0, pytest.approx(np.sqrt(5)))
    assert compare_torch.relative_difference(np.float32([2, 3]), np.float32([2, -6])) == 1.5
    assert compare_torch.relative_difference(np.zeros(2), np.zeros(2)) == 0.0


def test_report(report):
    folder, rows = report
    assert sorted(path.name for path in folder.iterdir()) == [
        "comparison.csv",
        "comparison.md",
        "difference.png",
        "steps.csv",
    ]
    with (folder / "comparison.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(rows) == 18
    for line in lines:
        assert float(line["difference"]) == rows[line["precision"], line["quantity"]].difference
    table = (folder / "comparison.md").read_text().splitlines()
    assert len(table) == 20
    output = rows["float32", "output"]
    assert table[3].startswith(f"| float32 | output | {output.difference:.2e} | 1e-05 |  | ")
    with (folder / "steps.csv").open(newline="") as file:
        steps = list(csv.DictReader(file))
    assert [line["step"] for line in steps] == ["1", "2", "3"]
    for precision in ("float32", "float64"):
        for name in ("Adam", "AdamW"):
            row = rows[precision, f"weights after 3 steps of {name}"]
            assert float(steps[-1][f"{precision} {name} largest"]) == row.difference
            assert float(steps[-1][f"{precision} {name} typical"]) == row.typical
    assert (folder / "difference.png").read_bytes().startswith(b"\x89PNG")


def test_leaves_the_precision_as_it_was(report):
    assert report
    assert jnp.zeros(()).dtype == jnp.float32
    with compare_torch.precision_enabled("float64"):
        assert jnp.zeros(()).dtype == jnp.float64
    assert jnp.zeros(()).dtype == jnp.float32


def test_nothing_is_overwritten(report, model_file):
    folder, _ = report
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(SystemExit, match="compare exists; choose another folder"):
        compare_torch.main(["--output", str(folder), "--weights", str(model_file)])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_wrong_network_is_found_out(weights, monkeypatch):
    right = torch_reference.Core.forward
    monkeypatch.setattr(
        torch_reference.Core, "forward", lambda self, x, M: right(self, x, M.transpose(-1, -2))
    )
    model = interop.load_torch_model(weights)
    config = compare_torch.CompareOptions(steps=1, patch=40).train_config(model.architecture)
    sides = (
        compare_torch.JaxSide(model, config, precision="float32", method="direct"),
        compare_torch.TorchSide(model, config, precision="float32"),
    )
    rng = np.random.default_rng(0)
    shapes = ((1, 40, 40, 1), (1, RANK, RANK), (1, 14, 14, 1))
    batch = torch_sides.Examples(*(rng.random(shape) for shape in shapes))
    rows, _ = compare_torch.compare_start(*sides, batch)
    assert [row.difference > row.bound for row in rows] == [True, True]


def sides_of(*gradients, outputs=(1.0, 1.0)):
    """Two sides that have computed already."""
    return [
        SimpleNamespace(
            precision="float32",
            restore=lambda batch, output=output: np.full(2, output),
            gradient=lambda batch, gradient=gradient: gradient,
        )
        for output, gradient in zip(outputs, gradients, strict=True)
    ]


@pytest.mark.parametrize("layer", ["a", "b", "c"])
@pytest.mark.parametrize("side", [0, 1])
def test_a_gradient_of_nan_is_above_the_bound(monkeypatch, layer, side):
    right = {name: np.float32([1, 2]) for name in "abc"}
    gradients = [right, right]
    gradients[side] = right | {layer: np.float32([1, np.nan])}
    rows, start = compare_torch.compare_start(*sides_of(*gradients), None)
    assert np.isnan(rows[1].difference)
    exact = compare_torch.compare_start(*sides_of(right, right), None)[1]
    rows += compare_torch.distances_from_float64(start, exact)
    assert [r.quantity for r in rows if np.isnan(r.difference)] == [
        "gradient, relative by layer",
        f"gradient, relative by layer: {('JAX', 'PyTorch')[side]} from float64",
    ]
    monkeypatch.setattr(compare_torch, "run", lambda options: rows)
    with pytest.raises(SystemExit, match=r"above the bound: float32 gradient"):
        compare_torch.main([])


def test_outputs_and_gradients_are_handed_on():
    gradients = {"a": np.float32([1, 2])}, {"a": np.float32([1, 3])}
    rows, start = compare_torch.compare_start(*sides_of(*gradients, outputs=(0.25, 1.0)), None)
    assert [row.difference for row in rows] == [0.75, pytest.approx(1 / 3)]
    assert start["gradient, relative by layer"] == gradients
    np.testing.assert_array_equal(
        [side["output"] for side in start["output"]], [[0.25] * 2, [1] * 2]
    )


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("core", ["projection", "least-squares"])
@pytest.mark.parametrize("fault", [None, "scale", "regularization"])
def test_a_wrong_core_is_above_the_bound(model_file, monkeypatch, precision, core, fault):
    right = torch_reference.LowRankBasis.forward

    def forward(self, kernel, regularization, *rest):
        if fault == "scale":
            return 1.001 * right(self, kernel, regularization, *rest)
        return right(self, kernel, (1.5 if fault else 1.0) * regularization, *rest)

    monkeypatch.setattr(torch_reference.LowRankBasis, "forward", forward)
    model = gx.load_model(model_file)
    inverse = replace(model.architecture.inverse, core=core)
    model = replace(model, architecture=replace(model.architecture, inverse=inverse))
    config = compare_torch.CompareOptions(**SMALL).train_config(model.architecture)
    theirs = torch_sides.TorchSide(model, config, precision=precision)
    kernels = np.stack([gx.gaussian_kernel(sigma=sigma, size=9) for sigma in (1.0, 2.0)])
    row, start = compare_torch.compare_cores(model, kernels, config, theirs)
    assert (row.difference < row.bound) == (fault is None)
    assert start[CORES][0].keys() == start[CORES][1].keys() == {"kernel 0", "kernel 1"}


def test_compiling_is_left_out_of_the_first_step(weights, monkeypatch):
    model = interop.load_torch_model(weights)
    config = compare_torch.CompareOptions(steps=1, patch=40).train_config(model.architecture)
    side = compare_torch.JaxSide(model, config, precision="float32", method="direct")
    monkeypatch.setattr(side, "_gradient", lambda params, batch: params)
    compiling = []

    def optimizer(config, make=torch_sides.optimizer):
        tx = make(config)

        def update(*arguments):  # called while it is compiled, and as if that took an hour
            compiling.append(3600.0)
            return tx.update(*arguments)

        return tx._replace(update=update)

    monkeypatch.setattr(torch_sides, "optimizer", optimizer)
    monkeypatch.setattr(torch_sides.time, "perf_counter", lambda: sum(compiling))
    batch = torch_sides.Examples(*(np.zeros((1, 1)) for _ in range(3)))
    ((_, seconds),) = side.train([batch], "Adam")
    assert compiling
    assert seconds < 3600


@pytest.mark.parametrize("difference", [2e-5, np.nan])
def test_ends_with_an_error_above_a_bound(monkeypatch, difference):
    rows = [
        Row("float32", "output", difference, bound=1e-5),
        Row("float64", "gradient", 1e-11, bound=1e-10),
        Row("float32", "weights", 1.0),
    ]
    monkeypatch.setattr(compare_torch, "run", lambda options: rows)
    with pytest.raises(SystemExit, match=r"^error: above the bound: float32 output$"):
        compare_torch.main([])
    for ours, theirs, excused in (
        (2e-5, 3e-5, True),
        (3e-5, 2e-5, False),
        (6e-6, 1e-6, False),  # within the bound, but further off than PyTorch
        (1e-7, 9.9e-4, True),
        (1e-7, 1.1e-3, False),  # PyTorch's own error is no rounding
        (np.nan, 2e-5, False),
        (2e-5, np.nan, False),
    ):
        distances = [
            Row("float32", "output: JAX from float64", ours),
            Row("float32", "output: PyTorch from float64", theirs),
        ]
        assert compare_torch.is_rounding(rows[0], [*rows, *distances]) == excused
    rows[0] = Row("float32", "output", 9e-6, bound=1e-5)
    compare_torch.main([])


def test_weights_of_every_kind(weights, basis, tmp_path):
    pytest.importorskip("google.protobuf")
    model = interop.load_torch_model(weights)
    gx.save_model(model, tmp_path / "own.safetensors")
    interop.save_torch_model(model, tmp_path / "torch.safetensors")
    for path in (weights, tmp_path / "own.safetensors", tmp_path / "torch.safetensors"):
        read = read_model(str(path), None)
        jax.tree.map(np.testing.assert_array_equal, read.params, model.params)
        jax.tree.map(np.testing.assert_array_equal, read.constants, model.constants)
    bare = {name: value for name, value in torch.load(weights).items() if "basis" not in name}
    torch.save(bare, tmp_path / "bare.pt")
    read = read_model(str(tmp_path / "bare.pt"), basis)
    jax.tree.map(
        np.testing.assert_array_equal, (read.constants, read.params), (basis, model.params)
    )

    layers = random_layers(SUPPORT, RANK, FEATURES)
    (tmp_path / "net.caffemodel").write_bytes(net_bytes(layers))
    read = read_model(str(tmp_path / "net.caffemodel"), basis)
    np.testing.assert_array_equal(read.params["refine_3"]["bias"], layers["conv5"][1])

    with pytest.raises(ValueError, match=r"without its basis.*--basis"):
        read_model(str(tmp_path / "net.caffemodel"), None)
    with pytest.raises(ValueError, match="leave --basis out"):
        read_model(str(tmp_path / "own.safetensors"), basis)
    with pytest.raises(ValueError, match=r"torch\.safetensors.*another basis"):
        read_model(str(tmp_path / "torch.safetensors"), basis)
    with pytest.raises(ValueError, match=r"bare\.pt.* holds no basis\.left"):
        read_model(str(tmp_path / "bare.pt"), None)
    with pytest.raises(IsADirectoryError, match="is a folder; give the file in it"):
        read_model(str(tmp_path), None)
    with pytest.raises(FileNotFoundError, match=r"no model file 'absent\.safetensors'"):
        read_model("absent.safetensors", None)


def test_a_fresh_network(basis, tmp_path, monkeypatch):
    fitted = []

    def fit(config):
        fitted.append(config)
        return basis

    monkeypatch.setattr(compare_torch, "training_constants", fit)
    options = compare_torch.CompareOptions(patch=40, support=SUPPORT, rank=RANK, features=FEATURES)
    model, config = compare_torch.starting_model(options)
    assert fitted == [config]
    assert model.architecture == gx.Glra(SUPPORT, RANK, FEATURES)
    kernel = model.params["vertical"]["kernel"]
    np.testing.assert_array_equal(kernel[::-1, 0, 0], basis.left)

    def remember(key, architecture, basis, **options):
        del key, options
        return basis, architecture

    monkeypatch.setattr(compare_torch, "initial_model", remember)
    np.savez(tmp_path / "basis.npz", left=basis.left, right=basis.right)
    from_file = replace(options, basis=tmp_path / "basis.npz", support=151, rank=50)
    (read, _), config = compare_torch.starting_model(from_file)
    assert fitted == [config]
    jax.tree.map(np.testing.assert_array_equal, read, basis)
    np.savez(tmp_path / "basis.npz", left=basis.left, right=basis.right * np.nan)
    with pytest.raises(ValueError, match=r"basis\.npz.*basis\.right.*NaN"):
        compare_torch.starting_model(from_file)


def test_batches_of_photographs(run):
    _, _, batches = run
    assert len(batches) == 3
    for batch in batches:
        assert batch.blurred.shape == (2, 40, 40, 1)
        assert batch.core.shape == (2, RANK, RANK)
        assert batch.sharp.shape == (2, 14, 14, 1)
        # Of the middle of the same photographs: what is sharp here is blurred there.
        for blurred, sharp in zip(batch.blurred, batch.sharp, strict=True):
            assert abs(blurred[13:27, 13:27].mean() - sharp.mean()) < 0.1
    assert np.abs(batches[0].blurred - batches[1].blurred).max() > 0.05


def test_both_sides_train_with_the_settings_of_the_model():
    architecture = gx.Glra(SUPPORT, RANK, FEATURES, gx.Inverse(**SETTINGS))
    config = compare_torch.CompareOptions(**SMALL).train_config(architecture)
    assert config.architecture == architecture


@pytest.mark.parametrize("shape", [(9, 9), (6, 9), (1, 1)])
def test_least_squares_cores_are_the_same_in_torch(basis, shape):
    rng = np.random.default_rng(0)
    kernel = rng.random(shape) ** 4
    kernel /= kernel.sum()
    left, right = (np.linalg.qr(np.asarray(side, np.float64))[0] for side in basis)
    settings = {"regularization": 0.002, "noise_weight": 40.0}
    network = torch_reference.DeconvNet(
        torch.from_numpy(left),
        torch.from_numpy(right),
        features=FEATURES,
        kind_of_core="least-squares",
        **settings,
    )
    expected = network.core_of(torch.from_numpy(kernel), 0.02).numpy()
    sides = gx.Basis(*(jnp.asarray(side, jnp.float32) for side in (left, right)))
    ours = partial(gx.deconvolution_core, sides, jnp.asarray(kernel, jnp.float32), noise=0.02)
    found = ours(inverse=gx.Inverse(core="least-squares", **settings))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    other = ours(inverse=gx.Inverse(**settings))
    if shape != (1, 1):
        assert np.abs(other - expected).max() > 0.01 * np.abs(expected).max()


@pytest.mark.parametrize("noise", [0.0, 0.03])
@pytest.mark.parametrize("shape", [(9, 9), (6, 9), (27, 27)])
def test_torch_inverse_and_core_against_numpy(basis, shape, noise):
    rng = np.random.default_rng(0)
    kernel = rng.random(shape) ** 4
    kernel /= kernel.sum()
    grid = np.zeros((27, 27))
    centre = [slice(13 - n // 2, 13 - n // 2 + n) for n in shape]
    grid[centre[0], centre[1]] = kernel
    spectrum = np.fft.fft2(np.fft.ifftshift(grid))
    along = np.abs(np.exp(2j * np.pi * np.fft.fftfreq(27)) - 1) ** 2  # of a forward difference
    damping = 0.02 + 40.0 * noise**2 * np.add.outer(along, along)
    expected = np.fft.fftshift(
        np.fft.ifft2(np.conj(spectrum) / (np.abs(spectrum) ** 2 + damping)).real
    )
    tensor = torch.from_numpy(kernel)
    inverse = torch_reference.pseudo_inverse(tensor, 27, 0.02, 40.0 * noise**2).numpy()
    np.testing.assert_allclose(inverse, expected, rtol=0, atol=1e-12)

    left, right = (np.linalg.qr(np.asarray(side, np.float64))[0] for side in basis)
    core = left.T @ expected @ right
    core /= (left @ core @ right.T).sum()
    settings = {"regularization": 0.02, "noise_weight": 40.0}
    network = torch_reference.DeconvNet(
        torch.from_numpy(left), torch.from_numpy(right), features=FEATURES, **settings
    )
    found = network.core_of(tensor, noise).numpy()
    np.testing.assert_allclose(found, core, rtol=0, atol=1e-10)
    sides = gx.Basis(*(jnp.asarray(side, jnp.float32) for side in (left, right)))
    found = gx.deconvolution_core(
        sides, jnp.asarray(kernel, jnp.float32), inverse=gx.Inverse(**settings), noise=noise
    )
    np.testing.assert_allclose(found, core, rtol=0, atol=2e-4 * np.abs(core).max())
    if noise:  # the noise counts
        assert np.abs(network.core_of(tensor).numpy() - core).max() > 0.003 * np.abs(core).max()
