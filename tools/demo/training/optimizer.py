"""Muon and AdamW on float32 copies of bfloat16 weights, with warm-up, cool-down and gradient clipping.

Muon (Jordan et al. 2024) makes every update of a matrix orthogonal, so that no direction of it is left untrained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class MasterOptimizer:
    """Keeps the weights a second time in float32; Muon moves `matrices`, AdamW everything else.

    Matrix products in bfloat16 are several times faster on a CPU with avx512_bf16, but steps of a thousandth would be
    rounded away in bfloat16 weights.

    Args:
        weights: all that is trained.
        matrices: those of them that Muon is for: weights between hidden states, shape (out, in). Its updates are
            scaled to the size of AdamW's (Liu et al. 2025), so both take the same rates.
        peak: learning rate between warm-up and cool-down.
        total_steps: length of the schedule. Before its cool-down a run may be given another.
        warm_up, cool_down: share of the schedule in which the rate rises from zero, and falls to zero at its end.
    """

    def __init__(
        self,
        weights: Sequence[nn.Parameter],
        matrices: Iterable[nn.Parameter],
        *,
        peak: float,
        total_steps: int,
        warm_up: float,
        cool_down: float,
        clip: float,
        beta: float,
        weight_decay: float,
    ) -> None:
        self.all_weights = list(weights)
        self.masters = [weight.detach().float().clone() for weight in self.all_weights]
        self.peak, self.total_steps, self.clip, self.cool_down = peak, total_steps, clip, cool_down
        self.warm, self.cool = max(1.0, warm_up * total_steps), max(1.0, cool_down * total_steps)
        ours = {id(matrix) for matrix in matrices}
        by_muon: list[Tensor] = []
        by_adamw: list[Tensor] = []
        for weight, master in zip(self.all_weights, self.masters, strict=True):
            (by_muon if id(weight) in ours else by_adamw).append(master)
        settings: dict[str, Any] = {"lr": 0.0, "weight_decay": weight_decay}
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(by_adamw, betas=(0.9, beta), foreach=True, **settings),
            torch.optim.Muon(by_muon, adjust_lr_fn="match_rms_adamw", **settings),
        ]
        self.steps = 0

    def rate(self) -> float:
        """Share of the peak learning rate at the present step."""
        return max(0.0, min(1.0, (self.steps + 1) / self.warm, (self.total_steps - self.steps) / self.cool))

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
                group["lr"] = self.peak * rate
            optimizer.step()
        self._write_back()
        self.steps += 1
        return norm

    def tensors(self) -> dict[str, Tensor]:
        """All that is needed to go on later, as flat named tensors."""
        state = {"steps": torch.tensor(self.steps), "total_steps": torch.tensor(self.total_steps)}
        for number, master in enumerate(self.masters):
            state[f"{_MASTER}.{number}"] = master
            for optimizer in self.optimizers:
                state |= {f"{name}.{number}": value for name, value in optimizer.state.get(master, {}).items()}
        return state

    def load_tensors(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` gave; the weights are set too.

        Raises:
            ValueError: the schedule had another length, and one of the two cool-downs has begun.
        """
        self.steps, total = int(state["steps"]), int(state["total_steps"])
        # up to the earlier cool-down two schedules are the same
        if total != self.total_steps and self.steps > (1.0 - self.cool_down) * min(total, self.total_steps):
            raise ValueError(f"a schedule of {total} steps cannot become one of {self.total_steps} any more")
        found: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            name, _, place = key.partition(".")
            if place:
                found.setdefault(int(place), {})[name] = value if name == "step" else value.to(self.masters[0].device)
        numbers = {id(master): number for number, master in enumerate(self.masters)}
        for optimizer in self.optimizers:
            for master in (one for group in optimizer.param_groups for one in group["params"]):
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
