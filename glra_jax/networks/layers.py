"""Flax layers that several networks share."""

import flax.linen as nn
import jax

from glra_jax.correlation.correlate import Padding, PreparedFilters, correlate

# Collection of variables that holds filters prepared for images of one size, where there are any.
PREPARED = "prepared"


class Correlate(nn.Module):
    """A layer of filters with a bias, computed by `glra_jax.correlate`.

    Attributes:
      features: number of outputs.
      window: height and width of the filters.
      padding: zeros around the image.
      method: of computing; changes the time, not the result.
    """

    features: int
    window: tuple[int, int]
    padding: Padding = "valid"
    method: str = "auto"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `(N, H, W, C)` to `(N, H', W', features)`."""
        kernel = self.param(
            "kernel", nn.initializers.xavier_uniform(), (*self.window, x.shape[-1], self.features)
        )
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        prepared: PreparedFilters | None = self.get_variable(PREPARED, "kernel")
        filters = kernel if prepared is None else prepared
        return correlate(x, filters, padding=self.padding, method=self.method) + bias
