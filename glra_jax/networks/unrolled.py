"""The default network: linear restorations, a U-Net, and steps back to the data between them.

Stage 1 restores linearly with several strengths, by FFT, and a U-Net makes one image of them.
Every further stage looks at what the image, blurred again, leaves unexplained of the data, restores
that linearly, and applies another U-Net; the last U-Net may serve several stages. A step to the
data without a network is the last.

Strengths follow the noise and the kernel. In what is left unexplained a clipped pixel counts only
as far as the scene is too dark for it (or too bright, where it is black), and a pixel outside the
frame, or a masked one, does not count. The first linear restorations need pixels there: they get
those that they themselves, blurred again, would have.

For such networks see Kruse et al., "Learning to Push the Limits of Efficient FFT-based Image
Deconvolution" (ICCV 2017), and Zhang et al., "Deep Unfolding Network for Image Super-Resolution"
(CVPR 2020).
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from glra_jax import spectra, validation
from glra_jax.inverses import Inverse
from glra_jax.networks.architecture import (
    WHITE,
    Architecture,
    Constants,
    ImageFacts,
    Margins,
    Params,
)
from glra_jax.networks.unet import MULTIPLE, UNet
from glra_jax.noise import NoiseModel

# Up to here a pixel is taken for clipped.
_BLACK = 0.0025
# Weights of the linear restorations: of the squared gradient against the noise's variance, and
# without noise; the middle one is what the U-Net corrects.
_SMOOTHNESS = (4.0, 20.0, 100.0)
_FLOOR = (1e-5, 1e-4, 1e-3)
# The same for the steps back to the data.
_STEP_WEIGHTS = (300.0, 30.0)
_STEP_FLOOR = (1e-3, 1e-4)
_LAST_WEIGHTS = (1000.0,)
_LAST_FLOOR = (3e-3,)
# A step leaves the frequencies below this gradient power to the data: brightness is kept.
_LOW = 0.1
# What is taken to be known of an image that nobody has looked at.
_UNSEEN = ImageFacts(grey=0.0, brightness=0.5)
# Weights of the linear restoration that fills in what is outside the frame, and its iterations.
_FILL_WEIGHT, _FILL_FLOOR = 100.0, 1e-3
_FILL_STEPS = 6
# Sums of squares below are taken for 0: the slope of a ratio has their square below the line.
_FILL_ENOUGH = 1e-15
# Loss of the images between the stages, against 1 of the last.
_INTERMEDIATE = 0.2
# Of the U-Nets, by precision; None for that of the images.
_DTYPES = {"float32": None, "bfloat16": jnp.bfloat16}


class UnrolledCondition(NamedTuple):
    """Condition of the unrolled network.

    Attributes:
      kernel: `(..., h, w)`, the blur kernel.
      noise: `(..., 3)`, standard deviation of the noise in each channel where the image is black.
      shot: `(..., 3)`, growth of the noise's variance with brightness.
      brightness: `(..., 3)`, mean of each channel of the whole image.
      grey: `(...)`, 1 where the channels of the whole image are the same, else 0.
    """

    kernel: jax.Array
    noise: jax.Array
    shot: jax.Array
    brightness: jax.Array
    grey: jax.Array


class _Strengths(nn.Module):
    """Weights of linear restorations, from the noise and the kernel.

    Attributes:
      noisy: weights against the noise's variance that they start with.
      floor: weights without noise that they start with.
    """

    noisy: tuple[float, ...]
    floor: tuple[float, ...]

    @nn.compact
    def __call__(self, variance: jax.Array, kernel: jax.Array) -> jax.Array:
        """Maps variances `(N, C)` and kernels `(N, h, w)` to `(N, C, J)`, J weights."""
        level = jnp.log10(variance + 1e-7)[..., None] + 4.0
        energy = jnp.log10(jnp.sum(kernel**2, axis=(1, 2)))[:, None, None] + 1.5
        told = jnp.concatenate([level, jnp.broadcast_to(energy, level.shape)], axis=-1)
        hidden = nn.tanh(nn.Dense(16, name="hidden")(told))
        count = len(self.noisy)
        change = nn.Dense(2 * count, kernel_init=nn.initializers.zeros_init(), name="change")(
            hidden
        )
        start = jnp.log(jnp.asarray(self.noisy + self.floor, jnp.float32))
        weights = jnp.exp(start + 2.0 * change)
        return weights[..., :count] * variance[..., None] + weights[..., count:]


class UnrolledNet(nn.Module):
    """The network as a Flax module; see the module's docstring.

    Attributes:
      stages: applications of a U-Net, at least 1.
      networks: U-Nets; the last one serves all further stages.
      features: see `UNet`.
      blocks: see `UNet`.
      fine_blocks: see `UNet`.
      rim: pixels on each side that linear restorations need and the result lacks.
      dtype: see `UNet`; all around the U-Nets is float32.
    """

    stages: int
    networks: int
    features: int
    blocks: int
    fine_blocks: int
    rim: int
    dtype: Any = None

    @nn.compact
    def __call__(
        self,
        y: jax.Array,
        condition: UnrolledCondition,
        inside: jax.Array | None,
        known: jax.Array | None = None,
    ) -> list[jax.Array]:
        """Restores images that go on outside their frame.

        Args:
          y: `(N, H, W, C)`, C 1 or 3.
          condition: leaves with a leading axis of N.
          inside: `(N, H, W, 1)`, 1 in the frame and 0 outside; None if all is inside.
          known: `(N, H, W, 1)`, 1 where `y` is data, and 0 outside and where it is masked, where
            it holds a guess; None for all in the frame. The U-Nets are shown `inside`: they have
            learned from borders alone, and do worse where they are shown scattered pixels as well.

        Returns:
          An image `(N, H - 2 rim, W - 2 rim, C)` for each stage and one for the last step.
        """
        grid, channels, rim = y.shape[1:3], y.shape[3], self.rim
        inner = slice(rim, -rim)
        blurred = jnp.moveaxis(y, 3, 1)  # FFTs are along the last two axes
        periodic = _periodic(blurred, rim // 2)
        transfer = jax.vmap(lambda kernel: spectra.transfer_function(kernel, grid))(
            condition.kernel
        )[:, None]
        power = transfer.real**2 + transfer.imag**2
        gradient = spectra.gradient_power(grid)
        noise, shot = condition.noise[:, :channels], condition.shot[:, :channels]
        variance = noise**2 + shot * condition.brightness[:, :channels]
        grey = condition.grey[:, None, None, None]
        known = inside if known is None else known
        if inside is None:
            inside = jnp.ones((*y.shape[:3], 1), y.dtype)
        counted = _window(grid, rim // 2)
        if known is not None:
            data = jnp.moveaxis(known, 3, 1)
            weight = _FILL_WEIGHT * variance[..., None, None] + _FILL_FLOOR
            penalty = weight * gradient
            periodic = _filled(periodic, data, power, penalty, steps=_FILL_STEPS)
            blurred = jnp.where(data > 0, blurred, periodic)
            counted = data * counted
        deviation = jnp.sqrt(
            noise[:, None, None] ** 2
            + shot[:, None, None] * jnp.clip(jnp.moveaxis(blurred, 1, 3)[:, inner, inner], 0, 1)
            + 1e-12
        )
        level = jnp.log10(jnp.mean(variance, axis=1) + 1e-7)[:, None, None, None] / 2 + 2.0

        networks = [
            UNet(
                self.features,
                self.blocks,
                self.fine_blocks,
                dtype=self.dtype,
                name=f"stage_{stage}",
            )
            for stage in range(1, self.networks + 1)
        ]

        def network(images: list[jax.Array], gains: jax.Array, stage: int) -> jax.Array:
            """Applies a stage's U-Net to cropped images `(N, C, H, W)` and what else is known."""
            size = y.shape[1] - 2 * rim, y.shape[2] - 2 * rim
            maps = [_in_colour(jnp.moveaxis(image, 1, 3)) for image in images]
            constants = jnp.concatenate([level, grey, gains[:, None, None]], axis=3)
            maps += [
                _in_colour(20.0 * deviation),
                inside[:, inner, inner],
                jnp.broadcast_to(constants, (y.shape[0], *size, constants.shape[3])),
            ]
            out = networks[min(stage, self.networks) - 1](jnp.concatenate(maps, axis=3))
            mean = out.mean(axis=3, keepdims=True)
            out = mean if channels == 1 else jnp.where(grey > 0, mean, out)
            return jnp.moveaxis(out, 3, 1)

        def amplification(filters: jax.Array) -> jax.Array:
            """Logarithm of the noise that filters `(N, C, J, H, W/2+1)` leave, `(N, J)`."""
            gain = jnp.mean(filters.real**2 + filters.imag**2, axis=(3, 4))
            return jnp.log10(jnp.mean(gain * variance[..., None], axis=1) + 1e-7) / 2 + 2.0

        def crop(images: jax.Array) -> jax.Array:
            return images[..., inner, inner]

        weights = _Strengths(_SMOOTHNESS, _FLOOR, name="strengths_1")(variance, condition.kernel)
        filters = jnp.conj(transfer)[:, :, None] / (
            power[:, :, None] + weights[..., None, None] * gradient
        )
        spectrum = jnp.fft.rfft2(periodic)
        linear = jnp.fft.irfft2(filters * spectrum[:, :, None], s=grid)
        middle = linear[:, :, 1]
        shown = [crop(blurred) - 0.5, *(crop(linear[:, :, j]) - 0.5 for j in range(3))]
        x = crop(middle) + network(shown, amplification(filters), 1)
        restored = [x]

        high = gradient / (gradient + _LOW)

        def data_steps(x: jax.Array, start: tuple[Any, Any], name: str) -> Any:
            """Linear restorations `(N, C, J, H', W')` of what `x` leaves unexplained."""
            whole = jax.lax.dynamic_update_slice(middle, x, (0, 0, rim, rim))
            again = jnp.fft.irfft2(jnp.fft.rfft2(whole) * transfer, s=grid)
            left = counted * _unexplained(blurred, again)
            weights = _Strengths(*start, name=name)(variance, condition.kernel)
            filters = jnp.conj(transfer)[:, :, None] / (
                power[:, :, None] + weights[..., None, None] * high
            )
            step = jnp.fft.irfft2(filters * jnp.fft.rfft2(left)[:, :, None], s=grid)
            return crop(step), amplification(filters)

        for stage in range(2, self.stages + 1):
            start = _STEP_WEIGHTS, _STEP_FLOOR
            steps, gains = data_steps(x, start, f"strengths_{stage}")
            shown = [crop(blurred) - 0.5, x - 0.5, 4.0 * steps[:, :, 0], 4.0 * steps[:, :, 1]]
            x = x + steps[:, :, 0] + network(shown, gains, stage)
            restored.append(x)
        step, _ = data_steps(x, (_LAST_WEIGHTS, _LAST_FLOOR), "strengths_last")
        restored.append(x + step[:, :, 0])
        return [jnp.moveaxis(image, 1, 3) for image in restored]


def _periodic(x: jax.Array, width: int) -> jax.Array:
    """Blends the last `width` pixels of `(N, C, H, W)` on each side into those opposite."""
    for axis in (2, 3):
        ramp = np.zeros(x.shape[axis], np.float32)
        ramp[:width] = 0.5 * (1.0 - np.arange(width) / width)
        ramp = ramp + ramp[::-1]
        share = jnp.asarray(ramp.reshape((1, 1, -1, 1) if axis == 2 else (1, 1, 1, -1)))
        x = (1.0 - share) * x + share * jnp.flip(x, axis)
    return x


def _filled(
    x: jax.Array, known: jax.Array, power: jax.Array, penalty: jax.Array, *, steps: int
) -> jax.Array:
    """Puts where nothing is known what the linear restoration, blurred again, has there.

    With `penalty` P and transfer function K, these pixels solve `(I - |K|² / (|K|² + P)) x = 0`
    where `known` is 0. They are approached by conjugate gradients from those in `x`.

    Args:
      x: `(N, C, H, W)`.
      known: `(N, 1, H, W)`, 1 where `x` is known and stays as it is.
      power: squared transfer function, `(N, 1, H, W/2+1)`.
      penalty: of the linear restoration, `(N, C, H, W/2+1)`.
      steps: of the conjugate gradients.

    Returns:
      The images, `(N, C, H, W)`.
    """
    unknown = 1.0 - known
    lost = penalty / (power + penalty)

    def without_fit(image: jax.Array) -> jax.Array:
        return unknown * jnp.fft.irfft2(jnp.fft.rfft2(image) * lost, s=image.shape[2:])

    def dot(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.sum(a * b, axis=(2, 3), keepdims=True)

    def ratio(a: jax.Array, b: jax.Array) -> jax.Array:
        enough = b > _FILL_ENOUGH
        return jnp.where(enough, a / jnp.where(enough, b, 1.0), 0.0)

    def step(_: int, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        x, left, direction, size = state
        change = without_fit(direction)
        length = ratio(size, dot(direction, change))
        x, left = x + length * direction, left - length * change
        smaller = dot(left, left)
        return x, left, left + ratio(smaller, size) * direction, smaller

    left = -without_fit(x)
    x, *_ = jax.lax.fori_loop(0, steps, step, (x, left, left, dot(left, left)))
    return x


def _window(grid: tuple[int, ...], width: int) -> jax.Array:
    """1, and 0 in the last `width` pixels on each side; `(H, W)`."""
    rows, columns = (
        ((np.arange(size) >= width) & (np.arange(size) < size - width)).astype(np.float32)
        for size in grid
    )
    return jnp.asarray(rows[:, None] * columns[None, :])


def _unexplained(y: jax.Array, again: jax.Array) -> jax.Array:
    """Data less what the scene gives, one-sided where the data are clipped."""
    left = y - again
    left = jnp.where(y >= WHITE, jnp.maximum(left, 0.0), left)
    return jnp.where(y <= _BLACK, jnp.minimum(left, 0.0), left)


def _in_colour(x: jax.Array) -> jax.Array:
    """Repeats the channel of grey images `(N, H, W, C)`."""
    return jnp.repeat(x, 3, axis=3) if x.shape[3] == 1 else x


@dataclass(frozen=True)
class Unrolled(Architecture):
    """Linear restorations, U-Nets, and steps back to the data.

    Attributes:
      stages: U-Nets one after the other, each with a step back to the data before it.
      features: maps of the U-Nets at half of the image's size.
      blocks: residual blocks of the U-Nets at an eighth of it.
      fine_blocks: residual blocks of the U-Nets at a half of it.
      networks: U-Nets with weights of their own; further stages use those of the last. None for as
        many as there are stages.
    """

    name: ClassVar[str] = "unrolled"
    joint_channels: ClassVar[tuple[int, ...]] = (1, 3)
    sees_frame: ClassVar[bool] = True
    scale_free: ClassVar[bool] = True
    by_image: ClassVar[bool] = True
    precisions: ClassVar[tuple[str, ...]] = tuple(_DTYPES)
    tile_side: ClassVar[int] = 768
    bytes_per_pixel: ClassVar[int] = 1024

    stages: int = 2
    features: int = 64
    blocks: int = 4
    fine_blocks: int = 0
    networks: int | None = None

    def __post_init__(self) -> None:
        for name in ("stages", "features", "blocks"):
            validation.check_size(getattr(self, name), name)
        if self.networks is not None:
            validation.check_size(self.networks, "networks")
            if self.networks > self.stages or (self.networks == 1 and self.stages > 1):
                raise ValueError(
                    f"networks must be from 2 to the number of stages, {self.stages}, got "
                    f"{self.networks}: the first U-Net is shown other images than the further ones"
                )
        validation.check_size(self.fine_blocks, "fine_blocks", minimum=0)
        if self.features % 2:
            raise ValueError(f"features must be even, got {self.features}")

    def margins(self, kernel: tuple[int, int]) -> Margins:
        """Half of the blur kernel and 16 pixels; images are made periodic in their outer half."""
        side = -(-(max(kernel) // 2 + 16) // MULTIPLE) * MULTIPLE
        return ((side, side),) * 2

    @property
    def halo(self) -> int:
        """Pixels beyond which the U-Nets' sight counts for next to nothing."""
        return 16

    @property
    def tile_multiple(self) -> int:
        """That of the U-Nets."""
        return MULTIPLE

    def init(
        self,
        key: jax.Array,
        constants: Constants,
        *,
        initialization: str,
        gain: float = 1.0,
        offset: float = 0.0,
    ) -> Params:
        """Random U-Nets that correct nothing yet: the middle linear restoration and a step."""
        del constants, initialization, gain, offset
        kernel = jnp.ones((1, 1, 1), jnp.float32)
        nothing = jnp.zeros((1, 3), jnp.float32)
        (rim, _), _ = self.margins((1, 1))
        image = jnp.zeros((1, *(2 * rim + MULTIPLE,) * 2, 3), jnp.float32)
        condition = UnrolledCondition(kernel, nothing, nothing, nothing, jnp.zeros(1))
        # Compiled, of which the compiler takes out the network's own arithmetic.
        init = jax.jit(self._module(rim).init)
        params: Params = init(key, image, condition, None)["params"]
        return params

    def adopt(
        self, other: Architecture, constants: Constants, params: Params
    ) -> tuple[Constants, Params]:
        """From a model of other stages and U-Nets, and of as many fine blocks or fewer.

        Further U-Nets start as its last, and further fine blocks as nothing. Further stages that
        share its last U-Net apply it once more.
        """
        if (
            not isinstance(other, Unrolled)
            or other.fine_blocks > self.fine_blocks
            or replace(
                other,
                stages=self.stages,
                fine_blocks=self.fine_blocks,
                networks=self.networks,
            )
            != self
        ):
            return super().adopt(other, constants, params)
        fresh = self.init(jax.random.key(0), constants, initialization="random")
        adopted = {name: params.get(name, layer) for name, layer in fresh.items()}
        theirs = other.distinct_networks
        for stage in range(1, self.distinct_networks + 1):
            is_new = stage > theirs
            unlike = {"leave"} if is_new else set()  # a new U-Net adds nothing yet
            if is_new and theirs == 1:
                unlike |= {"enter"}  # stage 1 sees other images
            source = {
                layer: weights
                for layer, weights in params[f"stage_{min(stage, theirs)}"].items()
                if layer not in unlike
            }
            adopted[f"stage_{stage}"] = {**fresh[f"stage_{stage}"], **source}
        if other.stages > 1:  # stage 1 has strengths of its own
            for stage in range(other.stages + 1, self.stages + 1):
                adopted[f"strengths_{stage}"] = params[f"strengths_{other.stages}"]
        return constants, adopted

    @property
    def distinct_networks(self) -> int:
        """U-Nets that have weights of their own."""
        return self.stages if self.networks is None else self.networks

    def condition(
        self,
        constants: Constants,
        kernel: jax.Array,
        *,
        noise: NoiseModel,
        inverse: Inverse | None = None,
        facts: ImageFacts = _UNSEEN,
    ) -> UnrolledCondition:
        """The blur kernel, the noise and the facts as they are."""
        del constants, inverse
        level, shot, brightness = (
            jnp.broadcast_to(jnp.asarray(part, jnp.float32), (3,))
            for part in (*noise, facts.brightness)
        )
        return UnrolledCondition(
            jnp.asarray(kernel, jnp.float32),
            level,
            shot,
            brightness,
            jnp.asarray(facts.grey, jnp.float32),
        )

    def iterates(
        self,
        params: Params,
        constants: Constants,
        y: jax.Array,
        condition: UnrolledCondition,
        *,
        inside: jax.Array | None = None,
        known: jax.Array | None = None,
        precision: str = "float32",
    ) -> list[tuple[float, jax.Array]]:
        """The image after every stage, not clipped."""
        del constants
        height, width = condition.kernel.shape[-2:]
        (rim, _), _ = self.margins((height, width))
        count = y.shape[0]
        condition = UnrolledCondition(
            *(jnp.broadcast_to(leaf, (count, *leaf.shape[1:])) for leaf in condition)
        )
        inside, known = (
            None if part is None else jnp.broadcast_to(part, (count, *y.shape[1:3], 1))
            for part in (inside, known)
        )
        module = self._module(rim, _DTYPES[precision])
        images = module.apply({"params": params}, y, condition, inside, known)
        return [(_INTERMEDIATE, image) for image in images[:-1]] + [(1.0, images[-1])]

    def apply(
        self,
        params: Params,
        constants: Constants,
        y: jax.Array,
        condition: UnrolledCondition,
        *,
        inside: jax.Array | None = None,
        known: jax.Array | None = None,
        prepared: Any = None,
        method: str = "auto",
    ) -> jax.Array:
        """Applies all stages."""
        del prepared, method
        images = self.iterates(params, constants, y, condition, inside=inside, known=known)
        return images[-1][1]

    def _module(self, rim: int, dtype: Any = None) -> UnrolledNet:
        return UnrolledNet(
            self.stages,
            self.distinct_networks,
            self.features,
            self.blocks,
            self.fine_blocks,
            rim,
            dtype,
        )
