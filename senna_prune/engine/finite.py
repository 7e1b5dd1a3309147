"""The error for a model whose numbers are not finite."""

from __future__ import annotations

import torch
from torch import Tensor

from senna_prune.errors import InputError


def not_finite(tensor: Tensor) -> InputError:
    """The error for a model whose numbers, of which `tensor` is one, are not finite: float16 overflows easily, and in
    other types the weights are broken."""
    kind = tensor.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype
    if dtype == torch.float16:
        return InputError("the model's output is not finite: float16 overflows", hint="load it in bfloat16 or float32")
    return InputError(
        f"the model's output is not finite in {str(dtype).removeprefix('torch.')}",
        hint="check the weights and the settings of the checkpoint",
    )
