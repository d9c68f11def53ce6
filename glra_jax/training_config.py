"""What a training run is: every number that its result depends on, and the presets."""

from dataclasses import dataclass, field, replace

from glra_jax import validation
from glra_jax.degradation import PROTOCOLS
from glra_jax.kernel_families import KernelFamilies
from glra_jax.network import STARTS

SCHEDULES = ("halving", "polynomial", "cosine")
LAYER_RATES = ("uniform", "tuned")


@dataclass(frozen=True)
class TrainConfig:
    """Configuration of a training run.

    Attributes:
      steps: number of updates.
      batch: examples an update.
      patch: side of the blurred patches; the output is smaller by `support - 1`.
      seed: of the starting weights, the basis' kernels and the batches.
      protocol: degradation, "paper" or "release" (see `glra_jax.degradation`).
      noise: range of the noise level, drawn evenly for each example.
      kernels: distribution of blur kernels.
      support: side of the pseudo-inverse kernels.
      rank: columns of the low-rank bases.
      features: maps between layers 4 and 6.
      regularization: of the pseudo-inverse.
      basis_kernels: number of kernels that the basis is fitted on.
      start: starting weights, "identity", "glra" or "random" (see `glra_jax.network.init_params`).
      learning_rate: the largest, before `layer_rates`.
      schedule: "halving" every `halve_every` steps, "polynomial" of power 2 to zero, or "cosine" to
        zero after `warmup` steps.
      halve_every: steps between halvings.
      warmup: steps of linear rise before the schedule "cosine".
      layer_rates: "uniform", or "tuned": 0.02 in layers 1 to 3, 0.2 in layer 4, 1 in 5 and 6.
      weight_decay: L2 penalty, added to the gradient before Adam.
    """

    steps: int = 100
    batch: int = 2
    patch: int = 256
    seed: int = 0
    protocol: str = "paper"
    noise: tuple[float, float] = (0.01, 0.01)
    kernels: KernelFamilies = field(default_factory=KernelFamilies)
    support: int = 151
    rank: int = 50
    features: int = 128
    regularization: float = 0.01
    basis_kernels: int = 300
    start: str = "identity"
    learning_rate: float = 5e-4
    schedule: str = "cosine"
    halve_every: int = 5000
    warmup: int = 20
    layer_rates: str = "tuned"
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "patch", "support", "rank", "features", "basis_kernels"):
            validation.check_size(getattr(self, name), name)
        validation.check_size(self.halve_every, "halve_every")
        validation.check_size(self.warmup, "warmup", minimum=0)
        validation.check_choice(self.protocol, "protocol", PROTOCOLS)
        validation.check_choice(self.start, "start", STARTS)
        validation.check_choice(self.schedule, "schedule", SCHEDULES)
        validation.check_choice(self.layer_rates, "layer_rates", LAYER_RATES)
        validation.check_positive(self.learning_rate, "learning_rate")
        validation.check_positive(self.regularization, "regularization")
        validation.check_non_negative(self.weight_decay, "weight_decay")
        low, high = self.noise
        if not 0 <= low <= high:
            raise ValueError(f"noise must be a range 0 <= low <= high, got {self.noise}")
        if self.rank > self.support:
            raise ValueError(f"rank {self.rank} is above the support {self.support}")
        if self.patch < self.support:
            raise ValueError(f"patch {self.patch} is smaller than the support {self.support}")
        if self.kernels.max_size > self.support:
            raise ValueError(
                f"kernels of size {self.kernels.max_size} are larger than the support {self.support}"
            )
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be from 0 to 2^31 - 1, got {self.seed}")

    @property
    def crop(self) -> int:
        """Side of the sharp patches from which the blurred ones are made."""
        return self.patch + self.kernels.max_size - 1


_SMOKE = TrainConfig()

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

PRESETS = {"smoke": _SMOKE, "paper": _PAPER, "release": _RELEASE}
