"""Options of `glra-jax kernel`: the shapes of blur, their sizes, and what a size cuts off."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import tyro

from glra_jax.kernels import disk_kernel, gaussian_kernel, motion_kernel
from glra_jax.optical_kernels import airy_kernel, airy_share, moffat_kernel, moffat_share
from glra_jax.validation import check_positive, check_seed, check_size

# Side of a kernel in pixels, and share of the blur that a size may lose unasked.
_LARGEST = 1023
_MOST_CUT_OFF = 0.5


@dataclass(frozen=True, kw_only=True)
class KernelShape:
    """What all shapes have.

    Attributes:
      output: File to write: .npy, .tif (both float32) or .png (16 bits, white its largest value).
      size: Side of the kernel in pixels, odd; as large as the blur needs if not given.
      picture: PNG file to draw the kernel into, large enough to be looked at.
      overwrite: Allow files to be replaced.
    """

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="OUT")]
    size: int | None = None
    picture: Annotated[Path | None, tyro.conf.arg(metavar="PNG")] = None
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False

    def check(self) -> None:
        """Raises ValueError for a width that none can be."""
        raise NotImplementedError

    def words(self) -> str:
        """What the kernel is, with its numbers."""
        raise NotImplementedError

    def halves(self) -> tuple[float, float]:
        """Pixels from the centre that must be within the kernel, and that better are."""
        raise NotImplementedError

    def cut_off(self, half: float) -> float:
        """Share of the blur further than `half` pixels from the centre."""
        raise NotImplementedError

    def make(self, size: int) -> jax.Array:
        """The kernel."""
        raise NotImplementedError

    def chosen_size(self) -> int:
        """The size that is told, or that the blur needs.

        Raises:
          ValueError: an even size, or one too small for the blur.
        """
        self.check()
        least, good = (2 * math.ceil(half) + 1 for half in self.halves())
        if self.size is None:
            if good > _LARGEST:
                raise ValueError(
                    f"{self.words()} needs {good} pixels on a side, more than the {_LARGEST} that "
                    f"a kernel may have; take a smaller width"
                )
            if self.cut_off(good / 2) > _MOST_CUT_OFF:
                raise ValueError(
                    f"{self.words()} has more than half of its light further than {good // 2} "
                    f"pixels from its centre; take steeper wings, or name a --size"
                )
            return good
        check_size(self.size, "--size")
        if self.size % 2 == 0:
            raise ValueError(
                f"--size must be odd, got {self.size}: no pixel is in the middle of an even one; "
                f"take {self.size + 1}"
            )
        if self.size > _LARGEST:
            raise ValueError(f"--size must be at most {_LARGEST}, got {self.size}")
        if self.size < least:
            lost = 100 * self.cut_off(self.size / 2)
            raise ValueError(
                f"--size {self.size} is too small for {self.words()}, {lost:.0f} % of which it "
                f"would cut off; take {least} at least, {good} is enough"
            )
        return self.size


@dataclass(frozen=True, kw_only=True)
class Gaussian(KernelShape):
    """Gaussian blur, sampled at pixel centres.

    Attributes:
      sigma: Standard deviation in pixels.
    """

    sigma: float

    def check(self) -> None:  # noqa: D102
        check_positive(self.sigma, "--sigma")

    def words(self) -> str:  # noqa: D102
        return f"a Gaussian of sigma {self.sigma:g}"

    def halves(self) -> tuple[float, float]:  # noqa: D102
        return 2 * self.sigma - 0.5, 4 * self.sigma - 0.5

    def cut_off(self, half: float) -> float:  # noqa: D102
        return math.exp(-0.5 * (half / self.sigma) ** 2)

    def make(self, size: int) -> jax.Array:  # noqa: D102
        return gaussian_kernel(sigma=self.sigma, size=size)


@dataclass(frozen=True, kw_only=True)
class Disk(KernelShape):
    """Blur out of focus: how much of each pixel a disk covers.

    Attributes:
      radius: Radius of the disk in pixels.
    """

    radius: float

    def check(self) -> None:  # noqa: D102
        check_positive(self.radius, "--radius")

    def words(self) -> str:  # noqa: D102
        return f"a disk of radius {self.radius:g}"

    def halves(self) -> tuple[float, float]:  # noqa: D102
        return (max(self.radius - 0.5, 0.0),) * 2

    def cut_off(self, half: float) -> float:  # noqa: D102
        return max(0.0, 1.0 - (half / self.radius) ** 2)

    def make(self, size: int) -> jax.Array:  # noqa: D102
        return disk_kernel(radius=self.radius, size=size)


@dataclass(frozen=True, kw_only=True)
class Motion(KernelShape):
    """Blur of a shaken camera, drawn at random.

    Attributes:
      extent: Largest reach of the path from the centre in pixels.
      seed: Another number is another path.
    """

    extent: float
    seed: int = 0

    def check(self) -> None:  # noqa: D102
        check_positive(self.extent, "--extent")
        check_seed(self.seed)

    def words(self) -> str:  # noqa: D102
        return f"motion of extent {self.extent:g}, seed {self.seed}"

    def halves(self) -> tuple[float, float]:  # noqa: D102
        return (self.extent,) * 2

    def cut_off(self, half: float) -> float:  # noqa: D102
        whole = 2 * math.ceil(self.extent) + 1
        if half >= whole / 2:
            return 0.0
        kept = self.make(whole)[(slice(whole // 2 - int(half), whole // 2 + int(half) + 1),) * 2]
        return 1.0 - float(kept.sum())

    def make(self, size: int) -> jax.Array:  # noqa: D102
        key = jax.random.key(self.seed)
        return motion_kernel(key, size=size, extent=self.extent)


@dataclass(frozen=True, kw_only=True)
class Moffat(KernelShape):
    """Stars as the atmosphere blurs them, sampled at pixel centres.

    Attributes:
      fwhm: Full width at half maximum in pixels; either this or alpha.
      alpha: Width in pixels.
      beta: How fast the wings fall off, above 1.
    """

    fwhm: float | None = None
    alpha: float | None = None
    beta: float = 2.5

    def check(self) -> None:  # noqa: D102
        if (self.fwhm is None) == (self.alpha is None):
            raise ValueError(
                f"give one of --fwhm and --alpha, got {self.fwhm} and {self.alpha}; both are the "
                f"width in pixels"
            )
        moffat_kernel(alpha=self.alpha, fwhm=self.fwhm, beta=self.beta, size=1)

    def words(self) -> str:  # noqa: D102
        width = f"alpha {self.alpha:g}" if self.fwhm is None else f"FWHM {self.fwhm:g}"
        return f"a Moffat profile of {width}, beta {self.beta:g}"

    def halves(self) -> tuple[float, float]:  # noqa: D102
        fwhm = 2 * self._alpha() * math.sqrt(2 ** (1 / self.beta) - 1)
        return fwhm, 4 * fwhm

    def cut_off(self, half: float) -> float:  # noqa: D102
        return 1.0 - moffat_share(half, alpha=self._alpha(), beta=self.beta)

    def make(self, size: int) -> jax.Array:  # noqa: D102
        return moffat_kernel(alpha=self.alpha, fwhm=self.fwhm, beta=self.beta, size=size)

    def _alpha(self) -> float:
        if self.alpha is not None:
            return self.alpha
        assert self.fwhm is not None
        return self.fwhm / (2 * math.sqrt(2 ** (1 / self.beta) - 1))


@dataclass(frozen=True, kw_only=True)
class Airy(KernelShape):
    """Diffraction by a round aperture, sampled at pixel centres.

    Attributes:
      radius: Radius of the first dark ring in pixels.
    """

    radius: float

    def check(self) -> None:  # noqa: D102
        check_positive(self.radius, "--radius")

    def words(self) -> str:  # noqa: D102
        return f"an Airy pattern of radius {self.radius:g}"

    def halves(self) -> tuple[float, float]:  # noqa: D102
        return self.radius, 4 * self.radius

    def cut_off(self, half: float) -> float:  # noqa: D102
        return 1.0 - airy_share(half, radius=self.radius)

    def make(self, size: int) -> jax.Array:  # noqa: D102
        return airy_kernel(radius=self.radius, size=size)


SHAPES: dict[str, type[KernelShape]] = {
    "gaussian": Gaussian,
    "disk": Disk,
    "motion": Motion,
    "moffat": Moffat,
    "airy": Airy,
}
