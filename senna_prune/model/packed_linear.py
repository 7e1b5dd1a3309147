"""Weights in oneDNN's own layout: on x86 CPUs, matrix products that are faster, and stay so for short sequences.

PyTorch's plain `nn.Linear` lays its weight out anew for the kernel in every call. That takes as long for few tokens as
for many, so it costs a pruned prefill, or an answer trie of some seventy tokens, most. Packed once, the layout is kept
and the plain weight dropped.

Each product equals the plain one to rounding. A whole plan need not: where two tokens' scores, or two answers, are
closer than that, packed weights may keep the other token or give the other answer, and all that follows differs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from senna_prune.errors import InputError

# Rows the layout is chosen for; any number may be multiplied.
_TYPICAL_ROWS = 256


class PackedLinear(nn.Module):
    """`nn.Linear` for inference on a CPU; a product equals the plain layer's to rounding.

    The packed weight is neither a parameter nor a buffer: it can be multiplied with, but not moved, saved or trained.
    """

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = plain.in_features, plain.out_features
        self.weight_bytes = plain.weight.numel() * plain.weight.element_size()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(plain.weight.detach(), _TYPICAL_ROWS)
        self.bias = plain.bias

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features). Without gradients."""
        with torch.no_grad():
            output: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, self._weight, self.bias, "none", [], "")
        return output


def pack_linears(model: nn.Module, *spared: nn.Module) -> int:
    """Pack every `nn.Linear` inside `model`, but none inside the `spared` modules, in place; returns how many.

    Raises:
        InputError: the weights are not float32 or bfloat16 on a CPU that oneDNN serves; nothing is packed then.
    """
    left_alone = {module for each in spared for module in each.modules()}
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear and child not in left_alone
    ]
    for _, _, linear in found:
        if linear.weight.device.type != "cpu" or not can_pack(linear.weight.dtype):
            raise InputError(
                f"weights of {linear.weight.dtype} on {linear.weight.device} cannot be packed",
                hint="pack float32 (or bfloat16, where the processor multiplies it) on an x86 CPU",
            )
    for parent, name, linear in found:
        setattr(parent, name, PackedLinear(linear))
    return len(found)


def can_pack(dtype: torch.dtype) -> bool:
    """Whether oneDNN packs weights of `dtype` on this CPU."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
