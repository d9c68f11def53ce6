"""What JPEG compression does to an image: rounding of the 8×8 cosine coefficients.

For making training and test images inside `jit`. The file itself, with its entropy coding, is left
out: it changes nothing. See ITU-T Recommendation T.81; colour as in JFIF 1.02.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax import validation

# T.81, annex K: tables K.1 and K.2.
_LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)
_CHROMINANCE = np.full((8, 8), 99, np.float32)
_CHROMINANCE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
_TO_YCBCR = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32
)
_TO_RGB = np.linalg.inv(_TO_YCBCR.astype(np.float64)).astype(np.float32)
_index = np.arange(8)
_COSINES = np.cos(np.pi * (2 * _index[None, :] + 1) * _index[:, None] / 16) / 2
_COSINES[0] /= np.sqrt(2.0)
_COSINES = _COSINES.astype(np.float32)

_product = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


def compress(x: jax.Array, *, quality: jax.typing.ArrayLike) -> jax.Array:
    """Compresses an image and opens it again, with the colour at half the size (4:2:0).

    Args:
      x: `(H, W, C)` float in [0, 1], of the brightness that files hold (sRGB); C 1 or 3.
      quality: as libjpeg counts it, 1 to 100; may be traced.

    Returns:
      `(H, W, C)` float32 in [0, 1], whole levels of 8 bits.

    Raises:
      ValueError: another rank or number of channels, or a quality out of range.
    """
    validation.check_float(x, "x")
    if x.ndim != 3 or x.shape[2] not in (1, 3):
        raise ValueError(f"x must be (H, W, 1) or (H, W, 3), got shape {x.shape}")
    if validation.is_known(quality) and not 1 <= float(quality) <= 100:  # type: ignore[arg-type]
        raise ValueError(f"quality must be from 1 to 100, got {quality}")
    height, width, channels = x.shape
    pads = [(0, -height % 16), (0, -width % 16), (0, 0)]
    levels = 255.0 * jnp.pad(jnp.asarray(x, jnp.float32), pads, mode="edge")
    quality = jnp.asarray(quality, jnp.float32)
    scale = jnp.where(quality < 50, 5000.0 / quality, 200.0 - 2.0 * quality)
    tables = [
        jnp.clip(jnp.floor((table * scale + 50.0) / 100.0), 1.0, 255.0)
        for table in (_LUMINANCE, _CHROMINANCE)
    ]
    if channels == 1:
        out = _quantized(levels[..., 0] - 128.0, tables[0])[..., None] + 128.0
    else:
        planes = _product("hwc,dc->hwd", levels, _TO_YCBCR)
        luma = _quantized(planes[..., 0] - 128.0, tables[0]) + 128.0
        chroma = [_quantized(_halved(planes[..., c]), tables[1]) for c in (1, 2)]
        whole = [jnp.repeat(jnp.repeat(plane, 2, 0), 2, 1) for plane in chroma]
        out = _product("hwd,cd->hwc", jnp.stack([luma, *whole], axis=2), _TO_RGB)
    return jnp.clip(jnp.round(out[:height, :width]), 0.0, 255.0) / 255.0


def _halved(x: jax.Array) -> jax.Array:
    height, width = x.shape
    return x.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))


def _quantized(x: jax.Array, table: jax.Array) -> jax.Array:
    """Rounds the cosine coefficients of every 8×8 block of `(H, W)` to multiples of a table's."""
    height, width = x.shape
    blocks = x.reshape(height // 8, 8, width // 8, 8)
    coefficients = _product("ui,aibj,vj->aubv", _COSINES, blocks, _COSINES)
    steps = table[None, :, None, :]
    coefficients = jnp.round(coefficients / steps) * steps
    return _product("ui,aubv,vj->aibj", _COSINES, coefficients, _COSINES).reshape(height, width)
