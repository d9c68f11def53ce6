"""Configuration of a training run: every number that its result depends on."""

from dataclasses import asdict, dataclass, field
from typing import Any, Generic, Literal, TypeVar, get_args

from glra_jax import validation
from glra_jax.degradation import degradation_named
from glra_jax.kernel_families import KernelFamilies
from glra_jax.metrics import SMALLEST_SSIM_SIDE
from glra_jax.model_files import configuration
from glra_jax.networks.architecture import Architecture, Margins

A = TypeVar("A", bound=Architecture)


@dataclass(frozen=True)
class TrainConfig(Generic[A]):
    """Configuration of a training run.

    Attributes:
      architecture: What is trained.
      initialization: Starting weights; which ones there are, and which if not given, depends on the
        architecture.
      steps: Number of updates, at least 1.
      batch: Examples an update, at least 1; devices share it evenly.
      patch: Side of the blurred patches in pixels, more than the architecture's margins take off.
      seed: Seed of starting weights, constants and batches, from 0 to 2^31 - 1.
      protocols: How photographs are degraded, by names in glra_jax.degradation.DEGRADATIONS (an
        unknown one lists them all); each degrades an equal share of the examples.
      noise: Range of the noise level, 0 or more.
      noise_power: Noise levels are drawn as a uniform number to this power: 1, uniformly; above,
        more low ones. Above 0.
      told_noise: Standard deviation of the logarithm of the error in the noise level that a network
        is told, in half of the examples; at least 0.
      estimated_noise: Share of examples whose noise a network is told as it is estimated from the
        blurred image and the kernel, as in use; from 0 to 1.
      wrong_kernels: Share of examples with a kernel that is told up to 1.25 pixels too small or too
        large on each side; from 0 to 1.
      grey: Share of examples whose photographs are turned grey, for networks that restore grey
        images and colour; from 0 to 1.
      kernels: Distribution of blur kernels.
      basis_kernels: Number of kernels that what is not trained (a basis) is fitted on, at least 1.
      loss: Squared error, as in the paper; mean PSNR, to which easy examples count as much; or mean
        PSNR and SSIM, which keeps more detail.
      optimizer: Adam, as in the paper; AdamW, whose weight decay is its own; SOAP, which learns the
        refining layers of the faithful network much faster; or Muon, for networks of wide layers.
      clip_norm: Largest norm of the gradient, which is scaled down to it; 0 leaves it as it is.
      average: Decay a step of the running average of the weights that is the result; 0 takes the
        last weights.
      learning_rate: Largest learning rate, above 0, before layer_rates.
      schedule: Learning rate: halved every halve_every steps, polynomial of power 2, or cosine.
      halve_every: Steps between halvings, at least 1.
      warmup: Steps of linear rise before the schedule "cosine", at least 0.
      layer_rates: The same rate in all layers, or the architecture's rates by layer.
      weight_decay: L2 penalty, at least 0, added to the gradient before the optimiser; with AdamW
        and Muon, after it.
      precision: Arithmetic of the layers of the default network's U-Nets; with bfloat16, weights,
        the optimiser's state, FFTs, sums of layers and losses are float32 all the same.
    """

    architecture: A
    initialization: str | None = None
    steps: int = 100
    batch: int = 2
    patch: int = 256
    seed: int = 0
    protocols: tuple[str, ...] = ("paper",)
    noise: tuple[float, float] = (0.01, 0.01)
    noise_power: float = 1.0
    told_noise: float = 0.0
    estimated_noise: float = 0.0
    wrong_kernels: float = 0.0
    grey: float = 0.0
    kernels: KernelFamilies = field(default_factory=KernelFamilies)
    basis_kernels: int = 300
    loss: Literal["squared", "psnr", "psnr-ssim"] = "squared"
    optimizer: Literal["adam", "adamw", "soap", "muon"] = "adam"
    clip_norm: float = 0.0
    average: float = 0.0
    learning_rate: float = 1e-3
    schedule: Literal["halving", "polynomial", "cosine"] = "cosine"
    halve_every: int = 5000
    warmup: int = 20
    layer_rates: Literal["uniform", "tuned"] = "tuned"
    weight_decay: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "patch", "basis_kernels", "halve_every"):
            validation.check_size(getattr(self, name), name)
        validation.check_size(self.warmup, "warmup", minimum=0)
        if not self.protocols:
            raise ValueError("protocols is empty; name at least one")
        for protocol in self.protocols:
            degradation_named(protocol)  # raises for an unknown one
        if self.batch % len(self.protocols):
            raise ValueError(
                f"batch must be a multiple of the number of protocols, {len(self.protocols)}, got "
                f"{self.batch}"
            )
        validation.check_positive(self.noise_power, "noise_power")
        for name in ("told_noise", "clip_norm"):
            validation.check_non_negative(getattr(self, name), name)
        for name in ("grey", "estimated_noise", "wrong_kernels"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average must be at least 0 and below 1, got {self.average}")
        for name in ("loss", "optimizer", "schedule", "layer_rates", "precision"):
            choices = get_args(type(self).__annotations__[name])
            validation.check_choice(getattr(self, name), name, choices)
        if self.precision not in self.architecture.precisions:
            raise ValueError(
                f"precision must be one of {', '.join(self.architecture.precisions)} for "
                f"{self.architecture.name}, got {self.precision!r}"
            )
        if self.initialization is None:
            object.__setattr__(self, "initialization", self.architecture.initializations[0])
        self.architecture.check_initialization(str(self.initialization))
        validation.check_positive(self.learning_rate, "learning_rate")
        validation.check_non_negative(self.weight_decay, "weight_decay")
        low, high = self.noise
        if not 0 <= low <= high:
            raise ValueError(f"noise must be a range 0 <= low <= high, got {self.noise}")
        self._check_sizes()
        validation.check_seed(self.seed)

    def _check_sizes(self) -> None:
        largest = self.architecture.largest_kernel
        if largest is not None and self.kernels.max_size > largest:
            raise ValueError(
                f"kernels of size {self.kernels.max_size} are larger than the {largest} pixels "
                f"that the architecture takes"
            )
        multiple = self.architecture.tile_multiple
        if self.patch % multiple:
            raise ValueError(
                f"patch must be a multiple of {multiple} for {self.architecture.name}, got "
                f"{self.patch}"
            )
        smallest = min(self.restored)
        halo = self.architecture.halo
        if self.architecture.sees_frame and 0 < smallest <= 2 * halo:
            raise ValueError(
                f"patch {self.patch} is too small: the frame may end {halo} pixels inside what is "
                f"restored, {smallest} pixels, on both sides; take a larger patch"
            )
        if smallest < 1:
            taken = [sum(margin) for margin in self.margins]
            raise ValueError(
                f"patch {self.patch} is too small: the architecture takes {max(taken)} pixels off"
            )
        if self.loss == "psnr-ssim" and smallest < SMALLEST_SSIM_SIDE:
            raise ValueError(
                f"loss='psnr-ssim' needs restored patches of {SMALLEST_SSIM_SIDE} pixels, got "
                f"{smallest}; take a larger patch"
            )

    @property
    def margins(self) -> Margins:
        """Pixels that the network takes off a patch."""
        return self.architecture.margins((self.kernels.max_size,) * 2)

    @property
    def restored(self) -> tuple[int, int]:
        """Height and width of what is restored of a patch."""
        height, width = (self.patch - sum(margin) for margin in self.margins)
        return height, width

    @property
    def crop(self) -> int:
        """Side of the sharp patches from which the blurred ones are made."""
        return self.patch + self.kernels.max_size - 1

    def describe(self) -> dict[str, Any]:
        """The configuration as JSON knows it, with the architecture's name."""
        return {**asdict(self), "architecture": configuration(self.architecture)}
