"""Weights to and from PyTorch: state dicts, `.pt`, `.pth` and `.safetensors` files.

This is the one place that knows how the two sides differ.

* **Names.** A layer's `kernel` is `LAYER.weight` in a state dict, its `bias` is `LAYER.bias`, with
  the layers `vertical`, `core`, `horizontal`, `refine_1`, `refine_2`, `refine_3`. The low-rank
  basis stands beside them as `basis.left` and `basis.right`, `(d, m)`.
* **Layout.** Filters are HWIO here, `(height, width, inputs, outputs)`, and OIHW there, `(outputs,
  inputs, height, width)`. Images are channels last here, `(N, H, W, 1)`, and first there,
  `(N, 1, H, W)`. No number changes: the way there and back is exact to the bit.
* **Direction.** Both sides correlate: filters are not flipped. Eq. 8 of the paper convolves,
  so that a filter that starts from a basis vector holds it reversed, on both sides alike.
* **The core** `M` is computed for every blur kernel, is no weight and is in no state dict; the
  layer has its bias alone. `M[i, j]` leads from vertical filter `i` to horizontal input `j`:
  `out[j] = Σ_i in[i] M[i, j]`. As the weight of a 1×1 `nn.Conv2d` it is `M.T[:, :, None, None]`.
* **Inverse.** How cores are computed, `glra_jax.Inverse`, is in no state dict. A `.safetensors`
  file carries it in its metadata; elsewhere it goes with the call.

A state dict is a mapping of names to PyTorch tensors or NumPy arrays, float32. PyTorch itself is
needed only for `.pt` and `.pth` files.
"""

from glra_jax.interop.entries import LAYERS
from glra_jax.interop.files import (
    UnreadEntry,
    load_torch_model,
    read_state_dict,
    save_torch_model,
)
from glra_jax.interop.state_dicts import (
    model_from_state_dict,
    model_to_state_dict,
    params_from_state_dict,
    params_to_state_dict,
)

__all__ = [
    "LAYERS",
    "UnreadEntry",
    "load_torch_model",
    "model_from_state_dict",
    "model_to_state_dict",
    "params_from_state_dict",
    "params_to_state_dict",
    "read_state_dict",
    "save_torch_model",
]
