"""Scores of the models that the package has, each on one photograph a blur family."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

import glra_jax as gx

SCORED = (slice(24, -24),) * 2  # the blur wraps around, and the restoration does not know it
FAMILIES = ("gaussian", "disk", "motion")

# PSNR of the restoration in dB, by family in the order above. What the blurred photograph has is
# 26.38, 26.73 and 28.81 by protocol "paper", and 21.62, 22.78 and 23.73 by protocol "release".
# `glra-random-init`, which a network from random weights became in as many steps, is below it.
SCORES = {
    "glra": (31.64, 31.98, 33.90),
    "glra-random-init": (25.41, 20.33, 18.08),
    "glra-release": (27.94, 29.28, 30.29),
    "unrolled": (31.76, 32.61, 35.15),
}


@pytest.fixture(scope="module")
def sharp() -> jax.Array:
    return jnp.asarray(skimage.data.coffee()[120:280, 200:360, 1] / 255.0, jnp.float32)


@pytest.fixture(scope="module")
def kernels() -> dict[str, jax.Array]:
    """Of one size, so that each model is compiled once."""
    return {
        "gaussian": gx.gaussian_kernel(sigma=1.8, size=15),
        "disk": gx.disk_kernel(radius=3.0, size=15),
        "motion": gx.motion_kernel(jax.random.key(2), size=15),
    }


def test_every_model_has_a_score() -> None:
    assert sorted(SCORES) == gx.available_models()


@pytest.mark.parametrize("name", SCORES)
def test_scores(name: str, sharp: jax.Array, kernels: dict[str, jax.Array]) -> None:
    model = gx.load_model(name)
    protocol = "release" if name == "glra-release" else "paper"
    truth = gx.sharp_target(sharp, protocol=protocol)[SCORED]
    scores = []
    for number, family in enumerate(FAMILIES):
        kernel = kernels[family]
        y = gx.degrade(jax.random.key(number), sharp, kernel, protocol=protocol, noise=0.01)
        scores.append(float(gx.psnr(gx.deconvolve(y, kernel, model, noise=0.01)[SCORED], truth)))
    np.testing.assert_allclose(scores, SCORES[name], rtol=0, atol=0.05)
