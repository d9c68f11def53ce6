"""Restoring one photograph of a file, with what many photographs share kept between them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import jax
import numpy as np

from glra_jax.commands.deblur_options import Deblur
from glra_jax.commands.file_kernels import FileKernel
from glra_jax.commands.tiles import common_tile
from glra_jax.file_noise import estimated_levels
from glra_jax.geometry import reach, shape_of
from glra_jax.inverses import Inverse
from glra_jax.jpeg_files import pixel_noise
from glra_jax.kernel_refinement import refine_kernel
from glra_jax.light import noise_in_linear_light, to_linear, to_srgb
from glra_jax.masks import fill_masked
from glra_jax.model import Model
from glra_jax.noise import NoiseModel
from glra_jax.photo import Photo
from glra_jax.restorer import Restorer, even_tile, prepare
from glra_jax.validation import check_kernel
from glra_jax.varying import deconvolve_varying

Say = Callable[[str], None]


def known_of(options: Deblur, path: Path, photo: Photo, mask: np.ndarray | None) -> np.ndarray:
    """Where a photograph is data, `(H, W)`; raises for values that are not finite there."""
    shape = photo.colour.shape[:2]
    if mask is not None and mask.shape != shape:
        sizes = ["×".join(map(str, size)) for size in (mask.shape, shape)]
        raise ValueError(
            f"--mask {options.mask} has {sizes[0]} pixels, and {path} {sizes[1]}; give one of its "
            f"size"
        )
    known = np.ones(shape, bool) if photo.known is None else photo.known
    known = known if mask is None else known & mask
    if not known.any():
        raise ValueError(f"{path} has no pixel that is data: all are NaN, or masked by --mask")
    values = photo.colour[known]
    if bad := int(values.size - np.isfinite(values).sum()):
        raise ValueError(
            f"{path} holds {bad} NaN or infinite values of {photo.colour.size}; replace them, or "
            f"name the file of a mask of them, --mask"
        )
    return known


def white_of(options: Deblur, path: Path, photo: Photo, known: np.ndarray) -> float:
    """Value of white; raises for floating-point values that no white is known of."""
    if options.scale is not None:
        return options.scale
    if photo.colour.dtype != np.float32:
        return float(np.iinfo(photo.colour.dtype).max)
    values = photo.colour[known]
    low, high = float(values.min()), float(values.max())
    if low < -1.0 or high > 2.0:
        raise ValueError(
            f"{path} has values from {low:.4g} to {high:.4g}, and white is 1 in floating-point "
            f"files; give the value of white by --scale, such as --scale {high:.4g}"
        )
    return 1.0


def told_inverse(options: Deblur, model: Model) -> Inverse | None:
    """Inverse of the kernel, if not the model's own."""
    own = model.architecture.default_inverse
    if options.regularization is None:
        return None
    if own is None:
        raise ValueError(
            f"--regularization {options.regularization:g} is for models whose inverse can be told, "
            f"and {options.model} is of the architecture {model.architecture.name}; leave it out"
        )
    return replace(own, regularization=options.regularization)


@dataclass(frozen=True)
class Bench:
    """What photographs are restored with.

    Attributes:
      options: of the command.
      model: the model.
      inverse: in place of the model's own, or None.
      mask: where photographs are data, as `--mask` says; None everywhere.
      many: whether photographs share tiles of few sizes; the best tile of each if not.
      prepared: restorers by tile and size of the kernel.
    """

    options: Deblur
    model: Model
    inverse: Inverse | None
    mask: np.ndarray | None
    many: bool
    prepared: dict[tuple[tuple[int, int], tuple[int, int]], Restorer] = field(default_factory=dict)

    def restore(
        self,
        path: Path,
        photo: Photo,
        kernel: FileKernel,
        *,
        white: float,
        known: np.ndarray,
        say: Say,
    ) -> Photo:
        """Restores a photograph.

        Args:
          path: where it is from.
          photo: the photograph.
          kernel: its blur, see `file_kernel`.
          white: value of white in it.
          known: where it is data, see `known_of`.
          say: takes lines on what is done.

        Returns:
          A photograph of the same kind of pixels.

        Raises:
          ValueError: one that cannot be restored, or whose restoration is not finite.
        """
        options = self.options
        mask = None if known.all() else known
        if mask is not None:
            nan = photo.known is not None
            why = " and ".join(["NaN"] * nan + [f"--mask {options.mask}"] * (self.mask is not None))
            say(
                f"{path}: {np.sum(~known)} of {known.size} pixels are no data ({why}); they are "
                f"restored from those around"
            )
        blurred = fill_masked(photo.colour.astype(np.float32), mask) / np.float32(white)
        light = to_linear(blurred) if options.light == "linear" else blurred
        values = kernel.nearest(photo.colour.shape)
        if options.refine_kernel:
            values = self._refined(path, light, values, mask, say)
        noise: float | np.ndarray | NoiseModel | None = self._noise(
            path, photo, blurred, mask, values, say
        )
        if options.light == "linear" and noise is not None and not isinstance(noise, NoiseModel):
            noise = noise_in_linear_light(noise)
        bar = not self.many
        if kernel.centres is not None:
            restored = deconvolve_varying(
                *(light, kernel.values, kernel.centres, self.model),
                boundary=options.boundary,
                noise=noise,
                mask=mask,
                progress=bar,
            )
        else:
            restorer = self._restorer(photo, values, noise)
            restored = restorer(light, boundary=options.boundary, mask=mask, progress=bar)
        if not np.isfinite(restored).all():
            raise ValueError(
                f"{path} is restored to NaN or infinite values by {options.model}; nothing is "
                f"written: take another model, or a larger --regularization"
            )
        if options.light == "linear":
            restored = to_srgb(restored)
        pixels = file_pixels(restored * np.float32(white), photo.colour.dtype, say)
        return replace(photo, colour=pixels)

    def _refined(
        self, path: Path, light: np.ndarray, kernel: jax.Array, mask: np.ndarray | None, say: Say
    ) -> jax.Array:
        """The kernel as the photograph shows it; says what was changed."""
        try:
            found = refine_kernel(light, kernel, mask=mask)
            check_kernel(found.kernel, support=self.model.architecture.largest_kernel)
        except ValueError as error:
            raise ValueError(f"{path}: --refine-kernel: {error}") from error
        if found.scale == 1.0 and found.angle == 0.0:
            say(f"{path}: the kernel is kept as it is; no other size or angle explains more")
        else:
            say(
                f"{path}: the kernel is refined, {found.scale:.3f} times as large and turned by "
                f"{found.angle:.1f} degrees counter-clockwise"
            )
        return found.kernel

    def _restorer(
        self, photo: Photo, kernel: jax.Array, noise: float | np.ndarray | NoiseModel | None
    ) -> Restorer:
        architecture = self.model.architecture
        sizes, largest = photo.colour.shape[:2], architecture.tile_side
        if not self.many:
            tile = even_tile(*sizes, largest=largest)
            return prepare(self.model, kernel, tile=tile, noise=noise, inverse=self.inverse)
        shape = shape_of(kernel)
        vertical, horizontal = (sum(margin) for margin in reach(architecture, shape))
        tile = common_tile(*sizes, largest=largest, margins=(vertical, horizontal))
        if (tile, shape) not in self.prepared:
            self.prepared[tile, shape] = prepare(
                self.model, kernel, tile=tile, noise=noise, inverse=self.inverse
            )
        return self.prepared[tile, shape].with_kernel(kernel, noise=noise, inverse=self.inverse)

    def _noise(
        self,
        path: Path,
        photo: Photo,
        blurred: np.ndarray,
        mask: np.ndarray | None,
        kernel: jax.Array,
        say: Say,
    ) -> float | np.ndarray | None:
        """The noise level that is told or estimated, and said; None if nothing depends on it."""
        options, architecture = self.options, self.model.architecture
        needed = architecture.uses_noise(self.inverse)
        if options.noise is not None and not needed:
            say(f"--noise {options.noise:g} changes nothing: {options.model} restores all alike")
        if options.noise is not None or not needed:
            return options.noise
        jpeg = pixel_noise(blurred, mask=mask) if photo.jpeg is None else photo.jpeg
        noise = estimated_levels(blurred, kernel, architecture, jpeg=jpeg, mask=mask)
        levels = ", ".join(f"{100 * level:.2f}" for level in np.atleast_1d(noise))
        seen = f", JPEG's of {100 * jpeg:.2f} % with it" if jpeg > 0 else ""
        say(f"{path}: noise of {levels} %{seen} (--noise to set it)")
        return noise


def file_pixels(values: np.ndarray, dtype: np.dtype, say: Say) -> np.ndarray:
    """Values, in the file's unit, as a file of a dtype holds them; says what it cannot hold."""
    if dtype == np.float32:
        return values.astype(np.float32)
    top = np.iinfo(dtype).max
    if brighter := int((values > top).sum()):
        say(f"{brighter} of {values.size} values are brighter than white, and written as white")
    return np.rint(np.clip(values, 0.0, top)).astype(dtype)
