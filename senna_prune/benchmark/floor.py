"""Lower bounds on time: FLOPs over the measured matmul rate, bytes over the measured copy rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from senna_prune.benchmark.clock import milliseconds
from senna_prune.cost import ModelShape, decoder_flops, readout_flops
from senna_prune.model.packed_linear import PackedLinear, can_pack


@dataclass(frozen=True)
class Hardware:
    """Measured rates.

    Attributes:
        flops: real FLOP per second of a large matrix product in the model's dtype, plain or with packed weights.
        bytes: bytes read per second of a large copy (which reads and writes as much).
    """

    flops: float
    bytes: float

    def floor(self, flops: float, read: float) -> float:
        """Milliseconds below which a stage cannot go: arithmetic or memory, whichever takes longer."""
        return 1e3 * max(flops / self.flops, read / self.bytes)

    def prefill(self, shape: ModelShape, entering: Sequence[int], text: int, weights: int) -> float:
        """Milliseconds of a prefill at least. Causal: SDPA skips the half of attention that no token may see."""
        return self.floor(decoder_flops(shape, entering, text, causal=True), weights)

    def readout(
        self, shape: ModelShape, entering: Sequence[int], text: int, weights: int, tokens: int, passes: int
    ) -> float:
        """Milliseconds at least of running `tokens` tokens after the prompt, in passes that read all weights each.

        Ten tokens of `generate` are nine passes of one: the prefill gives the first.
        """
        flops = readout_flops(shape, entering, text, tokens)
        return passes * self.floor(flops / passes, weights) if passes else self.floor(flops, 0)


def measure_hardware(device: torch.device, dtype: torch.dtype, rounds: int = 7) -> Hardware:
    """Best of several rounds: a floor should be low rather than high."""
    size = 8192 if device.type == "cuda" else 2048
    left = torch.randn(size, size, device=device).to(dtype)
    right = torch.randn(size, size, device=device).to(dtype)
    products: list[Callable[[], Tensor]] = [lambda: left @ right]
    if device.type == "cpu" and can_pack(dtype):
        packed = PackedLinear(nn.Linear(size, size, bias=False, dtype=dtype))
        products.append(lambda: packed(left))
    product = min(milliseconds(multiply, device) for multiply in products for _ in range(rounds))
    source = torch.zeros(2**31 if device.type == "cuda" else 2**27, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = min(milliseconds(lambda: target.copy_(source), device) for _ in range(rounds))
    # A copy moves every byte twice; a stage that only reads weights moves them once.
    return Hardware(flops=2.0 * size**3 / (product / 1e3), bytes=2.0 * source.numel() / (copy / 1e3))
