"""Muon and AdamW on float32 copies of bfloat16 weights, with warm-up, cosine and gradient clipping.

Muon (Jordan et al. 2024) makes every update of a matrix orthogonal, so that no direction of it is left untrained.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Groups = Sequence[tuple[Iterable[nn.Parameter], float]]
"""Parameters and the peak learning rate of each group."""


class MasterOptimizer:
    """Keeps the weights a second time in float32; Muon moves `matrices`, AdamW everything else.

    Matrix products in bfloat16 are several times faster on a CPU with avx512_bf16, but steps of a thousandth would be
    rounded away in bfloat16 weights.

    Args:
        groups: parameters and the peak learning rate of each group.
        matrices: those of them that Muon is for: weights between hidden states, shape (out, in). Its updates are
            scaled to the size of AdamW's (Liu et al. 2025), so both take the same rates.
        total_steps: length of the schedule.
    """

    def __init__(
        self,
        groups: Groups,
        matrices: Iterable[nn.Parameter],
        *,
        total_steps: int,
        warm_up: int,
        clip: float,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        weights = [(weight, peak) for parameters, peak in groups for weight in parameters]
        self.all_weights = [weight for weight, _ in weights]
        """The weights that are trained."""
        self.masters = [weight.detach().float().clone() for weight in self.all_weights]
        self.total_steps, self.warm_up, self.clip = total_steps, warm_up, clip
        ours = {id(matrix) for matrix in matrices}
        by_muon: list[dict[str, Any]] = []
        by_adamw: list[dict[str, Any]] = []
        for (weight, peak), master in zip(weights, self.masters, strict=True):
            (by_muon if id(weight) in ours else by_adamw).append({"params": [master], "peak": peak})
        settings: dict[str, Any] = {"lr": 0.0, "weight_decay": weight_decay}
        self.optimizers: list[torch.optim.Optimizer] = []
        if by_adamw:
            self.optimizers.append(torch.optim.AdamW(by_adamw, betas=betas, foreach=True, **settings))
        if by_muon:
            self.optimizers.append(torch.optim.Muon(by_muon, adjust_lr_fn="match_rms_adamw", **settings))
        self.steps = 0

    def rate(self) -> float:
        """Share of the peak learning rate at the present step: linear warm-up, then cosine to zero."""
        if self.steps < self.warm_up:
            return (self.steps + 1) / self.warm_up
        progress = (self.steps - self.warm_up) / max(1, self.total_steps - self.warm_up)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    def step(self, pieces: Sequence[Sequence[Tensor | None]]) -> float:
        """Apply the mean of the gradients of a batch's pieces. Returns its norm before clipping.

        Args:
            pieces: for every piece a gradient per weight, in the order of `all_weights`; None where it had no part.
        """
        for master, *gradients in zip(self.masters, *pieces, strict=True):
            parts = [gradient.float() for gradient in gradients if gradient is not None]
            master.grad = torch.stack(parts).sum(dim=0) / len(pieces) if parts else None
        norm = float(nn.utils.clip_grad_norm_([one for one in self.masters if one.grad is not None], self.clip))
        rate = self.rate()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
            optimizer.step()
        self._write_back()
        self.steps += 1
        return norm

    def tensors(self) -> dict[str, Tensor]:
        """All that is needed to go on later, as flat named tensors."""
        state = {"steps": torch.tensor(self.steps)}
        for number, master in enumerate(self.masters):
            state[f"{_MASTER}.{number}"] = master
            for optimizer in self.optimizers:
                state |= {f"{name}.{number}": value for name, value in optimizer.state.get(master, {}).items()}
        return state

    def load_tensors(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` gave; the weights are set too."""
        self.steps = int(state["steps"])
        found: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            name, _, place = key.partition(".")
            if place:
                found.setdefault(int(place), {})[name] = value if name == "step" else value.to(self.masters[0].device)
        numbers = {id(master): number for number, master in enumerate(self.masters)}
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                (master,) = group["params"]
                number = numbers[id(master)]
                with torch.no_grad():
                    master.copy_(found[number].pop(_MASTER))
                if found[number]:
                    optimizer.state[master] = found[number]
        self._write_back()

    def _write_back(self) -> None:
        with torch.no_grad():
            for weight, master in zip(self.all_weights, self.masters, strict=True):
                weight.copy_(master)


_MASTER = "master"
