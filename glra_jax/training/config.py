"""What a training run is: every number that its result depends on, and the presets."""

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from glra_jax import validation
from glra_jax.cores import Core
from glra_jax.kernel_families import KernelFamilies
from glra_jax.metrics import SMALLEST_SSIM_SIDE
from glra_jax.networks.initialization import PASSING_STARTS, check_start


@dataclass(frozen=True)
class TrainConfig:
    """Configuration of a training run.

    Attributes:
      steps: Number of updates, at least 1.
      batch: Examples an update, at least 1; devices share it evenly.
      patch: Side of the blurred patches in pixels, at least the support.
      seed: Seed of starting weights, basis and batches, from 0 to 2^31 - 1.
      protocol: Degradation: the paper's text or its released data.
      noise: Range of the noise level, 0 or more, drawn evenly for each example.
      kernels: Distribution of blur kernels.
      support: Side of the pseudo-inverse kernels in pixels, at least the largest kernel.
      rank: Columns of the low-rank bases, from 1 to the support.
      features: Maps between layers 4 and 6; at least 13 for the start "identity", 109 for
        "shrinkage".
      core: How cores are computed: the paper's projection of the pseudo-inverse, or the best ones
        in the basis (see glra_jax.cores).
      regularization: Of the pseudo-inverse, above 0.
      noise_weight: Of the noise level's square in the pseudo-inverse's smoothness, at least 0.
      basis_kernels: Number of kernels that the basis is fitted on, at least 1.
      start: Starting weights: eq. 8 passed on, eq. 8 denoised, the paper's, or all random.
      trained: All layers, or layers 4 to 6 on eq. 8, cheaper by far.
      loss: Squared error, as in the paper; mean PSNR, to which easy examples count as much; or mean
        PSNR and SSIM, which keeps more detail.
      optimizer: Adam, as in the paper, or SOAP, which learns much faster.
      learning_rate: Largest learning rate, above 0, before layer_rates.
      schedule: Learning rate: halved every halve_every steps, polynomial of power 2, or cosine.
      halve_every: Steps between halvings, at least 1.
      warmup: Steps of linear rise before the schedule "cosine", at least 0.
      layer_rates: The same rate in all layers, or rates tuned by layer.
      weight_decay: L2 penalty, at least 0, added to the gradient before Adam.
    """

    steps: int = 100
    batch: int = 2
    patch: int = 256
    seed: int = 0
    protocol: Literal["paper", "release"] = "paper"
    noise: tuple[float, float] = (0.01, 0.01)
    kernels: KernelFamilies = field(default_factory=KernelFamilies)
    support: int = 151
    rank: int = 50
    features: int = 128
    core: Core = "projection"
    regularization: float = 0.01
    noise_weight: float = 0.0
    basis_kernels: int = 300
    start: Literal["identity", "shrinkage", "glra", "random"] = "identity"
    trained: Literal["all", "refinement"] = "all"
    loss: Literal["squared", "psnr", "psnr-ssim"] = "squared"
    optimizer: Literal["adam", "soap"] = "adam"
    learning_rate: float = 1e-3
    schedule: Literal["halving", "polynomial", "cosine"] = "cosine"
    halve_every: int = 5000
    warmup: int = 20
    layer_rates: Literal["uniform", "tuned"] = "tuned"
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "patch", "support", "rank", "features", "basis_kernels"):
            validation.check_size(getattr(self, name), name)
        validation.check_size(self.halve_every, "halve_every")
        validation.check_size(self.warmup, "warmup", minimum=0)
        choosers = ("protocol", "core", "start", "trained", "loss", "optimizer", "schedule")
        for name in (*choosers, "layer_rates"):
            choices = get_args(type(self).__annotations__[name])
            validation.check_choice(getattr(self, name), name, choices)
        check_start(self.start, self.features)
        validation.check_positive(self.learning_rate, "learning_rate")
        validation.check_positive(self.regularization, "regularization")
        validation.check_non_negative(self.weight_decay, "weight_decay")
        validation.check_non_negative(self.noise_weight, "noise_weight")
        low, high = self.noise
        if not 0 <= low <= high:
            raise ValueError(f"noise must be a range 0 <= low <= high, got {self.noise}")
        if self.trained == "refinement" and self.start not in PASSING_STARTS:
            raise ValueError(
                f"trained='refinement' needs a start that passes eq. 8 on, 'identity' or "
                f"'shrinkage', got start={self.start!r}"
            )
        if self.rank > self.support:
            raise ValueError(f"rank {self.rank} is above the support {self.support}")
        if self.patch < self.support:
            raise ValueError(f"patch {self.patch} is smaller than the support {self.support}")
        restored = self.patch - self.support + 1
        if self.loss == "psnr-ssim" and restored < SMALLEST_SSIM_SIDE:
            raise ValueError(
                f"loss='psnr-ssim' needs restored patches of {SMALLEST_SSIM_SIDE} pixels, got "
                f"{restored}; take a larger patch"
            )
        if self.kernels.max_size > self.support:
            raise ValueError(
                f"kernels of size {self.kernels.max_size} are larger than the support "
                f"{self.support}"
            )
        validation.check_seed(self.seed)

    @property
    def crop(self) -> int:
        """Side of the sharp patches from which the blurred ones are made."""
        return self.patch + self.kernels.max_size - 1


_SMOKE = TrainConfig(start="shrinkage")

# The paper's section 4: text as printed.
_PAPER = replace(
    _SMOKE,
    steps=200_000,
    batch=1,
    start="glra",
    learning_rate=1e-4,
    schedule="halving",
    warmup=0,
    layer_rates="uniform",
    weight_decay=1e-5,
    kernels=KernelFamilies(families=("gaussian", "disk")),
)

# The authors' solver file and released data, which say otherwise.
_RELEASE = replace(
    _PAPER,
    schedule="polynomial",
    weight_decay=1e-6,
    protocol="release",
    kernels=KernelFamilies(families=("gaussian",), min_size=23, max_size=23),
)

# The models in the package, whose names they bear. A rank of 50 does for one family of kernels and
# loses 0.8 dB with motion blur among them, 100 next to nothing.
_GLRA = replace(
    _SMOKE,
    steps=7000,
    batch=8,
    noise=(0.0, 0.03),
    rank=100,
    core="least-squares",
    regularization=0.0005,
    noise_weight=20.0,  # 60 is better for eq. 8 alone, which layers 4 to 6 need not be given smooth
    basis_kernels=1000,
    trained="refinement",
    loss="psnr",
    optimizer="soap",
    learning_rate=2e-3,
    warmup=100,
)

_GLRA_RELEASE = replace(
    _GLRA,
    steps=3000,
    protocol="release",
    noise=_RELEASE.noise,
    kernels=_RELEASE.kernels,
    rank=50,
    regularization=0.0001,
    noise_weight=40.0,
    basis_kernels=300,
)

# What the basis is worth: all layers from random weights. Its counterpart is the same with the
# start "glra". Rank 50, because all of layer 3 is trained.
_GLRA_RANDOM_INIT = replace(
    _GLRA,
    steps=1000,
    batch=2,
    rank=50,
    core="projection",
    regularization=0.002,
    noise_weight=60.0,
    trained="all",
    start="random",
    layer_rates="uniform",
)

PRESETS = {
    "smoke": _SMOKE,
    "paper": _PAPER,
    "release": _RELEASE,
    "glra": _GLRA,
    "glra-release": _GLRA_RELEASE,
    "glra-random-init": _GLRA_RANDOM_INIT,
}
