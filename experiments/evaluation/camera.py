"""Photographs as a camera takes and stores them: protocol "camera-file".

The photograph, a file, is decoded to linear light. Camera shake blurs it there; what the blur needs
beyond the frame is cut off. A pixel that is white collects `full_well` electrons: their number is
Poisson's, and the sensor adds Gaussian noise. The sum is clipped, encoded as sRGB and rounded to 8
bits, or compressed as JPEG. The truth is the photograph's own file. Highlights are as in it: none
is brighter than white.

Methods are given the file, decoded to linear light unless `light` is "file"; what they restore is
encoded again before it is scored. All arithmetic but the methods' is in float64.
"""

import io
from dataclasses import dataclass
from typing import Literal

import jax
import numpy as np
from PIL import Image
from scipy.signal import fftconvolve

from experiments.evaluation.cases import Case, as_floats, valid_part
from glra_jax import validation
from glra_jax.kernels import motion_kernel
from glra_jax.light import to_linear, to_srgb

SHAKE = "shake"  # the kernel of a camera, where no other is named
_LEAST_NOISE = 1e-4  # that methods are told: they divide by it


@dataclass(frozen=True)
class Camera:
    """The camera of protocol camera-file, and what becomes of its files.

    Attributes:
      full_well: Electrons of a white pixel. 10,000 are those of a good camera at ISO 400 to 800, or
        of a telephone in sunlight: the noise is 1 % of white there, and 0.4 % at middle grey.
      read_noise: Standard deviation of the sensor's own noise in electrons.
      quality: Of JPEG, 1 to 100 as libjpeg counts it; files are not compressed if not given.
      shake: Width of the random camera-shake kernels in pixels, which their path reaches to.
      light: What methods restore: linear light, into which the file is decoded and from which it is
        encoded again; or the values of the file.
    """

    full_well: float = 10_000.0
    read_noise: float = 5.0
    quality: int | None = None
    shake: int = 25
    light: Literal["linear", "file"] = "linear"

    def __post_init__(self) -> None:
        validation.check_positive(self.full_well, "full_well")
        validation.check_non_negative(self.read_noise, "read_noise")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ValueError(f"quality must be from 1 to 100, got {self.quality}")
        validation.check_size(self.shake, "shake", minimum=3)
        validation.check_choice(self.light, "light", ("linear", "file"))

    @property
    def words(self) -> str:
        """The camera in a few words."""
        stored = "8 bits" if self.quality is None else f"JPEG of quality {self.quality}"
        return f"{self.full_well:g} electrons, read noise {self.read_noise:g}, {stored}"


def clipped_srgb(values: np.ndarray) -> np.ndarray:
    """Clips linear light to [0, 1] and encodes it as sRGB; float64."""
    return to_srgb(np.clip(np.asarray(values, np.float64), 0.0, 1.0))


def draw_shake(key: jax.Array, *, size: int) -> jax.Array:
    """Draws the kernel of a camera shake that reaches the window's edge."""
    return motion_kernel(key, size=size, extent=float((size - 1) // 2))


def expose(light: np.ndarray, generator: np.random.Generator, camera: Camera) -> np.ndarray:
    """What a sensor counts of linear light, in units of white; not clipped."""
    photons = generator.poisson(camera.full_well * light)
    electrons = photons + camera.read_noise * generator.standard_normal(light.shape)
    return electrons / camera.full_well


def store(light: np.ndarray, camera: Camera) -> np.ndarray:
    """The pixels of a camera's file, uint8."""
    pixels = np.round(255.0 * clipped_srgb(light)).astype(np.uint8)
    if camera.quality is None:
        return pixels
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=camera.quality)
    return np.asarray(Image.open(buffer))


def make_camera_file(
    name: str, pixels: np.ndarray, kernel: np.ndarray, key: jax.Array, *, camera: Camera
) -> Case:
    """Makes the case of a photograph.

    The noise that methods are told is the root mean square, in the light in which they restore, of
    all by which the file differs from the clean blurred image, where it is neither black nor white.

    Args:
      name: of the case.
      pixels: integers, a file of sRGB.
      kernel: blur kernel.
      key: of the noise.
      camera: what takes it.

    Returns:
      The case.
    """
    sharp = as_floats(pixels)
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    clean = _blur(to_linear(sharp.astype(np.float64)), kernel)
    file = store(expose(clean, generator, camera), camera) / 255.0
    linear = camera.light == "linear"
    given = to_linear(file) if linear else file
    seen = (file > 0) & (file < 1)
    error = np.where(seen, given - (clean if linear else clipped_srgb(clean)), 0.0)
    noise = np.sqrt((error**2).sum() / max(int(seen.sum()), 1))
    return Case(
        name,
        given.astype(np.float32),
        valid_part(sharp, kernel.shape),
        kernel,
        None,
        finish=_encode if linear else None,
        noise=max(float(noise), _LEAST_NOISE),
    )


def _blur(light: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolves with boundary "valid"; not below 0, where rounding leads."""
    taps = kernel.astype(np.float64)
    taps = taps if light.ndim == 2 else taps[..., None]
    return np.maximum(fftconvolve(light, taps, mode="valid", axes=(0, 1)), 0.0)


def _encode(restored: np.ndarray) -> np.ndarray:
    return clipped_srgb(restored).astype(np.float32)
