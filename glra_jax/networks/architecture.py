"""The contract of a network: all that restoring, training, saving and loading know of it.

A network is one module of this folder with one subclass of `Architecture`, and one line in the
registry (`glra_jax.networks`). Three things make a model:

* the *architecture*, a frozen dataclass whose fields are the configuration in a model file:
  numbers, strings, and frozen dataclasses of them;
* its *constants*, a pytree of arrays that are not trained, such as the basis of GLRA;
* its *params*, a nested dict of arrays that are trained.

For every blur kernel and noise level an architecture computes a *condition*, a pytree of arrays:
the core of the faithful network, for instance. Images are `(N, H, W, C)` float32 in [0, 1].
"""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax import validation
from glra_jax.inverses import Inverse
from glra_jax.kernel_families import KernelFamilies

if TYPE_CHECKING:
    from glra_jax.networks.data_step import StepFilters

Params = dict[str, Any]
Constants = Any
Condition = Any
Margins = tuple[tuple[int, int], tuple[int, int]]

# From here on a pixel is taken for clipped.
WHITE = 0.9975


class ImageFacts(NamedTuple):
    """What a tile of an image cannot know of the whole.

    Attributes:
      grey: 1 where all channels are the same, else 0; scalar.
      brightness: mean of each channel, `(C,)`.
    """

    grey: jax.typing.ArrayLike
    brightness: jax.typing.ArrayLike


def image_facts(images: jax.Array | np.ndarray) -> ImageFacts:
    """Looks at images `(..., H, W, C)`; in NumPy, which compiles nothing, at those of NumPy."""
    xp: Any = np if isinstance(images, np.ndarray) else jnp
    grey = xp.all(images == images[..., :1], axis=(-3, -2, -1)).astype(np.float32)
    return ImageFacts(grey, images.mean(axis=(-3, -2), dtype=np.float32))


def without_margins(x: jax.Array, margins: Margins) -> jax.Array:
    """Takes margins, `((top, bottom), (left, right))`, off `(N, H, W, C)`."""
    (top, bottom), (left, right) = margins
    height, width = x.shape[1:3]
    return x[:, top : height - bottom, left : width - right]


@dataclass(frozen=True)
class Architecture(abc.ABC):
    """Description of a network. Subclasses are frozen dataclasses; see the module.

    Attributes:
      name: what model files and the registry call it.
      joint_channels: numbers of channels that it takes together, in the last axis. `(1,)`: every
        channel is restored independently. `(1, 3)`: grey or RGB.
      initializations: names of its initialisations, the default first.
      sees_frame: whether `apply` takes `inside=`, `(N, H, W, 1)`: 1 in the frame and 0 outside,
        None if all is inside; and `known=`, shaped alike: 1 where pixels are data, 0 where they are
        masked or outside, None if all in the frame are. Others get masked pixels filled in.
      by_image: whether there is a condition for each image, so that `condition` takes a
        `NoiseModel` as noise, and `facts=`, the `ImageFacts`; else, one noise level.
      scale_free: whether images are scaled before `apply` and back after it, so that one k times as
        dark is restored k times as dark; `apply` then does not clip.
      precisions: in which `iterates` computes, of "float32" and "bfloat16".
      layer_rates: learning rates of the layers (the first level of the params) against each other;
        1 where a layer is not named.
      tile_side: largest side of the tiles that a photograph is restored in, in pixels: with larger
        ones less is computed twice, and with smaller ones memory is saved.
      bytes_per_pixel: memory that restoring takes for each pixel of a tile and its surroundings;
        how many tiles a GPU restores at once follows from it.
    """

    name: ClassVar[str]
    joint_channels: ClassVar[tuple[int, ...]] = (1,)
    initializations: ClassVar[tuple[str, ...]] = ("random",)
    sees_frame: ClassVar[bool] = False
    by_image: ClassVar[bool] = False
    scale_free: ClassVar[bool] = False
    precisions: ClassVar[tuple[str, ...]] = ("float32",)
    layer_rates: ClassVar[Mapping[str, float]] = {}
    tile_side: ClassVar[int] = 320
    bytes_per_pixel: ClassVar[int] = 4096

    # --- geometry -------------------------------------------------------------------------------

    def margins(self, kernel: tuple[int, int]) -> Margins:
        """Pixels that `apply` takes off, for a blur kernel of a shape.

        Args:
          kernel: height and width.

        Returns:
          `((top, bottom), (left, right))`.
        """
        del kernel
        return (0, 0), (0, 0)

    @property
    def halo(self) -> int:
        """Distance that a restored pixel sees further, and with it what `apply` pads inside."""
        return 0

    @property
    def tile_multiple(self) -> int:
        """The sides of what `apply` is given must be multiples of this."""
        return 1

    @property
    def largest_kernel(self) -> int | None:
        """Largest side of a blur kernel; None for any."""
        return None

    def check_initialization(self, name: str) -> None:
        """Raises ValueError for an initialisation that there is not."""
        validation.check_choice(name, "initialization", self.initializations)

    # --- arrays ---------------------------------------------------------------------------------

    def abstract_constants(self) -> Constants:
        """Shapes and dtypes of the constants, as `jax.ShapeDtypeStruct`s."""
        return {}

    def fit_constants(
        self,
        key: jax.Array,
        families: KernelFamilies,
        *,
        count: int,
        noise: tuple[float, float],
    ) -> Constants:
        """Computes the constants that a training run starts from.

        Args:
          key: PRNG key.
          families: distribution of the blur kernels to be restored.
          count: how many of them to look at.
          noise: range of the noise's standard deviation.

        Returns:
          The constants, shaped as `abstract_constants`.
        """
        del key, families, count, noise
        return {}

    @abc.abstractmethod
    def init(
        self,
        key: jax.Array,
        constants: Constants,
        *,
        initialization: str,
        gain: float = 1.0,
        offset: float = 0.0,
    ) -> Params:
        """Weights to start from.

        Args:
          key: PRNG key.
          constants: of the model.
          initialization: one of `initializations`.
          gain: blurred images are brighter than the truth by this factor on the mean; weights that
            restore from the start undo it.
          offset: added to them on the mean.

        Returns:
          Params, float32.
        """

    def adopt(
        self, other: "Architecture", constants: Constants, params: Params
    ) -> tuple[Constants | None, Params]:
        """Starting point taken from a model, of this architecture or of one that it knows.

        Args:
          other: the model's architecture.
          constants: its constants.
          params: its weights.

        Returns:
          Constants, None where they are to be fitted anew, and params.

        Raises:
          ValueError: the model cannot be started from.
        """
        if other != self:
            raise ValueError(
                f"the initial model is {other}, and the run trains {self}; give the run the same "
                f"configuration, or another model"
            )
        return constants, params

    # --- restoring ------------------------------------------------------------------------------

    @property
    def default_inverse(self) -> Inverse | None:
        """Inverse of blur kernels unless told otherwise; None if nothing of it can be told."""
        return None

    def uses_noise(self, inverse: Inverse | None) -> bool:
        """Tells whether the condition depends on the noise level."""
        del inverse
        return True

    @abc.abstractmethod
    def condition(
        self,
        constants: Constants,
        kernel: jax.Array,
        *,
        noise: Any,
        inverse: Inverse | None = None,
    ) -> Condition:
        """Computes what the network is told of a blur kernel and a noise level.

        Args:
          constants: of the model.
          kernel: `(h, w)`, sum 1.
          noise: standard deviation of the noise, scalar; where `by_image`, a model of it.
          inverse: in place of `default_inverse`; None unless there is one.

        Returns:
          A pytree of arrays, of the same structure for all kernels.
        """

    def check_condition(self, condition: Condition, kernel: jax.Array) -> None:
        """Raises ValueError for a condition that restores nothing (called with known values)."""
        del condition, kernel

    def prepare(self, params: Params, images: tuple[int, int, int], *, method: str) -> Any:
        """Computes once what `apply` needs for many images of one shape `(N, H, W)`.

        Returns:
          A pytree that `apply` takes as `prepared`; None if there is nothing.
        """
        del params, images, method
        return None

    @abc.abstractmethod
    def apply(
        self,
        params: Params,
        constants: Constants,
        y: jax.Array,
        condition: Condition,
        *,
        prepared: Any = None,
        method: str = "auto",
    ) -> jax.Array:
        """Restores images that already go on outside their frame.

        Args:
          params: weights.
          constants: of the model.
          y: `(N, H, W, C)`, C one of `joint_channels`, H and W multiples of `tile_multiple`.
          condition: leaves with a leading axis of N, or of 1 for all images alike.
          prepared: from `prepare`, for images of this shape.
          method: of computing, see `glra_jax.correlation.correlate`; those with one method only
            ignore it.

        Returns:
          `(N, H', W', C)`, smaller by `margins`. Pixels nearer to its rim than `halo` may depend on
          padding.
        """

    def step_filters(self, condition: Condition) -> "StepFilters | None":
        """Filters of a step back to the data that restoring ends with; None for no step.

        It is taken on the whole frame behind `apply`, see `glra_jax.networks.data_step`; training
        does not see it.

        Args:
          condition: leaves with a leading axis, as for `apply`.
        """
        del condition
        return None

    def iterates(
        self,
        params: Params,
        constants: Constants,
        y: jax.Array,
        condition: Condition,
        *,
        inside: jax.Array | None = None,
        precision: str = "float32",
    ) -> list[tuple[float, jax.Array]]:
        """Images that training compares with the truth; arguments as `apply` has them.

        Args:
          params: see `apply`.
          constants: see `apply`.
          y: see `apply`.
          condition: see `apply`.
          inside: see `sees_frame`.
          precision: one of `precisions`, for what takes most of the time. Weights and images are
            float32.

        Returns:
          Pairs of a weight in the loss and an image, the result last, which need not be clipped.
        """
        del precision  # there is one
        frame: Any = {"inside": inside} if self.sees_frame else {}
        return [(1.0, self.apply(params, constants, y, condition, **frame))]
