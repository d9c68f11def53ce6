"""The presets hold the published numbers, and every impossible configuration is refused."""

from dataclasses import FrozenInstanceError, replace

import pytest

from glra_jax import Glra, Inverse, KernelFamilies
from glra_jax.networks import Refinement
from glra_jax.training.config import TrainConfig
from glra_jax.training.presets import PRESETS

DEFAULT = TrainConfig(architecture=Glra())

# What the paper's section 4 and the authors' solver file say; one dictionary for each.
PUBLISHED = {
    "paper": {
        "steps": 200_000,
        "batch": 1,
        "patch": 256,
        "protocols": ("paper",),
        "noise": (0.01, 0.01),
        "initialization": "glra",
        "learning_rate": 1e-4,
        "schedule": "halving",
        "halve_every": 5_000,
        "layer_rates": "uniform",
        "weight_decay": 1e-5,
    },
    "release": {
        "steps": 200_000,
        "batch": 1,
        "patch": 256,
        "protocols": ("release",),
        "noise": (0.01, 0.01),
        "initialization": "glra",
        "learning_rate": 1e-4,
        "schedule": "polynomial",
        "layer_rates": "uniform",
        "weight_decay": 1e-6,
    },
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_presets_hold_the_published_numbers(name):
    preset = PRESETS[name]
    assert {field: getattr(preset, field) for field in PUBLISHED[name]} == PUBLISHED[name]


@pytest.mark.parametrize("name", ["smoke", "paper", "release"])
def test_every_preset_trains_the_network_at_its_real_size(name):
    preset = PRESETS[name]
    assert preset.architecture == Glra(151, 50, 128, Inverse(0.01, 0.0, "projection"))
    assert preset.restored == (106, 106)


def test_presets_draw_the_kernels_that_their_sources_used():
    assert PRESETS["paper"].kernels.families == ("gaussian", "disk")
    released = PRESETS["release"].kernels
    assert released.families == ("gaussian",)
    assert (released.min_size, released.max_size) == (23, 23)
    # The released kernels' standard deviations reach from 1.15 to 5.15 pixels.
    assert released.min_sigma <= 1.15
    assert released.max_sigma >= 5.15


def test_smoke_run_is_short_starts_beyond_the_linear_restoration_and_has_all_families():
    smoke = PRESETS["smoke"]
    assert smoke.steps == 100
    assert smoke.initialization in ("identity", "shrinkage")
    assert smoke.kernels.families == ("gaussian", "disk", "motion")


@pytest.mark.parametrize("name", ["glra", "glra-release"])
def test_models_of_the_package_train_layers_4_to_6_for_psnr(name):
    preset = PRESETS[name]
    assert isinstance(preset.architecture, Refinement)
    assert (preset.loss, preset.initialization) == ("psnr", "shrinkage")
    assert (preset.architecture.support, preset.architecture.features) == (151, 128)
    assert preset.optimizer == "soap"


def test_both_models_follow_the_noise_and_the_released_one_its_protocol():
    general, released = PRESETS["glra"], PRESETS["glra-release"]
    assert general.kernels.families == ("gaussian", "disk", "motion")
    assert general.noise == (0.0, 0.03)
    assert general.architecture.inverse.noise_weight > 0
    assert released.architecture.inverse.noise_weight > 0
    for field in ("protocols", "kernels", "noise"):
        assert getattr(released, field) == getattr(PRESETS["release"], field), field
    assert released.architecture.rank == PRESETS["release"].architecture.rank


def test_the_random_start_differs_from_the_default_model_in_what_it_must():
    general, random = PRESETS["glra"], PRESETS["glra-random-init"]
    assert random.initialization == "random"
    assert isinstance(random.architecture, Glra)
    for field in ("protocols", "kernels", "noise", "loss"):
        assert getattr(random, field) == getattr(general, field), field
    assert (random.optimizer, random.learning_rate) == (general.optimizer, general.learning_rate)


@pytest.mark.parametrize("name", ["identity", "shrinkage"])
def test_layers_4_to_6_can_be_trained_from_what_passes_the_linear_restoration_on(name):
    config = TrainConfig(architecture=Refinement(), initialization=name)
    assert config.initialization == name
    with pytest.raises(ValueError, match="one of identity, shrinkage, got 'glra'"):
        replace(config, initialization="glra")


def test_all_layers_go_on_from_layers_4_to_6():
    first, all_layers = PRESETS["glra"].architecture, PRESETS["glra-all-layers"].architecture
    assert isinstance(all_layers, Glra)
    for field in ("support", "rank", "features", "inverse"):
        assert getattr(all_layers, field) == getattr(first, field), field


def test_by_default_all_is_trained_as_in_the_paper():
    for config in (DEFAULT, PRESETS["paper"], PRESETS["release"]):
        assert isinstance(config.architecture, Glra)
        assert (config.loss, config.architecture.inverse.noise_weight) == ("squared", 0.0)
        assert config.optimizer == "adam"


def test_crop_leaves_room_for_the_largest_blur():
    config = replace(DEFAULT, patch=200, kernels=KernelFamilies(max_size=21))
    assert config.crop == 220


@pytest.mark.parametrize(
    ("change", "quoted"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch": -2}, "batch must be at least 1, got -2"),
        ({"basis_kernels": 0}, "basis_kernels must be at least 1, got 0"),
        ({"halve_every": 0}, "halve_every must be at least 1, got 0"),
        ({"warmup": -1}, "warmup must be at least 0, got -1"),
        ({"seed": -1}, "seed must be from 0 .* got -1"),
        ({"seed": 2**31}, "seed must be from 0 .* got 2147483648"),
        (
            {"protocols": ("papre",)},
            "protocol must be one of paper, release, camera, poisson, got 'papre'",
        ),
        (
            {"initialization": "shrinkage", "architecture": Glra(features=108)},
            "'shrinkage' needs 109 features .* got 108",
        ),
        ({"architecture": Refinement(features=12)}, "'identity' needs 13 features .* got 12"),
        ({"initialization": "zero"}, "initialization must be one of identity, .* got 'zero'"),
        ({"schedule": "linear"}, "schedule must be one of halving, .* got 'linear'"),
        ({"layer_rates": "all"}, "layer_rates must be one of uniform, tuned, got 'all'"),
        ({"learning_rate": 0.0}, "learning_rate must be .* above 0, got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be finite .* got nan"),
        ({"weight_decay": -1e-5}, "weight_decay must be .* at least 0, got -1e-05"),
        ({"loss": "ssim"}, "loss must be one of squared, psnr, psnr-ssim, got 'ssim'"),
        ({"loss": "psnr-ssim", "patch": 160}, "restored patches of 11 pixels, got 10"),
        ({"optimizer": "sgd"}, "optimizer must be one of adam, adamw, soap, muon, got 'sgd'"),
        ({"noise": (0.02, 0.01)}, r"noise must be a range .* got \(0.02, 0.01\)"),
        ({"noise": (-0.01, 0.01)}, r"noise must be a range .* got \(-0.01, 0.01\)"),
        ({"patch": 150}, "patch 150 is too small: the architecture takes 150 pixels off"),
        ({"architecture": Glra(25, 5)}, "size 27 are larger than the 25 pixels"),
    ],
)
def test_impossible_values_are_refused_and_quoted(change, quoted):
    with pytest.raises(ValueError, match=quoted):
        replace(DEFAULT, **change)


@pytest.mark.parametrize(
    ("change", "quoted"),
    [
        ({"rank": 0}, "rank must be at least 1, got 0"),
        ({"features": 0}, "features must be at least 1, got 0"),
        ({"rank": 152}, "rank 152 is above the support 151"),
    ],
)
@pytest.mark.parametrize("kind", [Glra, Refinement])
def test_impossible_networks_are_refused_and_quoted(kind, change, quoted):
    with pytest.raises(ValueError, match=quoted):
        kind(**change)


@pytest.mark.parametrize(
    ("change", "quoted"),
    [
        ({"regularization": -0.1}, "regularization must be .* above 0, got -0.1"),
        ({"noise_weight": -1.0}, "noise_weight must be .* at least 0, got -1.0"),
        ({"noise_weight": float("nan")}, "noise_weight must be finite .* got nan"),
        ({"core": "wiener"}, "core must be one of projection, least-squares, got 'wiener'"),
    ],
)
def test_impossible_inverses_are_refused_and_quoted(change, quoted):
    with pytest.raises(ValueError, match=quoted):
        Inverse(**change)


@pytest.mark.parametrize("value", [1.0, "8", True, None])
def test_sizes_must_be_integers(value):
    with pytest.raises(TypeError, match=f"batch must be an int .* got {value!r}"):
        replace(DEFAULT, batch=value)


def test_a_configuration_is_fixed_and_hashable():
    config = DEFAULT
    with pytest.raises(FrozenInstanceError):
        config.steps = 7
    assert hash(config) == hash(replace(config))
    assert config != replace(config, seed=1)
