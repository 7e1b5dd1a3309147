"""AdamW on float32 copies of bfloat16 weights, with warm-up, cosine and gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

Groups = Sequence[tuple[Iterable[nn.Parameter], float]]
"""Parameters and the peak learning rate of each group."""


class MasterAdamW:
    """Keeps the weights a second time in float32.

    Matrix products in bfloat16 are several times faster on a CPU with avx512_bf16, but steps of a thousandth would be
    rounded away in bfloat16 weights.

    Args:
        groups: parameters and the peak learning rate of each group.
        total_steps: length of the schedule.
    """

    def __init__(
        self,
        groups: Groups,
        *,
        total_steps: int,
        warm_up: int,
        clip: float,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        self.weights = [list(parameters) for parameters, _ in groups]
        self.masters = [[weight.detach().float().clone() for weight in group] for group in self.weights]
        self.peaks = [peak for _, peak in groups]
        self.total_steps, self.warm_up, self.clip = total_steps, warm_up, clip
        self.optimizer = torch.optim.AdamW(
            [{"params": group} for group in self.masters], lr=0.0, betas=betas, weight_decay=weight_decay, foreach=True
        )
        self.steps = 0

    @property
    def all_weights(self) -> list[nn.Parameter]:
        """The weights that are trained."""
        return [weight for group in self.weights for weight in group]

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
        for master, *gradients in zip(self._all_masters(), *pieces, strict=True):
            parts = [gradient.float() for gradient in gradients if gradient is not None]
            master.grad = torch.stack(parts).sum(dim=0) / len(pieces) if parts else None
        with_gradient = [master for group in self.masters for master in group if master.grad is not None]
        norm = float(nn.utils.clip_grad_norm_(with_gradient, self.clip))
        rate = self.rate()
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * rate
        self.optimizer.step()
        self._write_back()
        self.steps += 1
        return norm

    def tensors(self) -> dict[str, Tensor]:
        """All that is needed to go on later, as flat named tensors."""
        state = {"steps": torch.tensor(self.steps)}
        for number, master in enumerate(self._all_masters()):
            state[f"master.{number}"] = master
            state |= {f"{name}.{number}": value for name, value in self.optimizer.state.get(master, {}).items()}
        return state

    def load_tensors(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` gave; the weights are set too."""
        self.steps = int(state["steps"])
        with torch.no_grad():
            for number, master in enumerate(self._all_masters()):
                master.copy_(state[f"master.{number}"])
                if f"step.{number}" in state:
                    averages = {name: state[f"{name}.{number}"].to(master.device) for name in ("exp_avg", "exp_avg_sq")}
                    self.optimizer.state[master] = {"step": state[f"step.{number}"], **averages}
        self._write_back()

    def _all_masters(self) -> list[Tensor]:
        return [master for group in self.masters for master in group]

    def _write_back(self) -> None:
        with torch.no_grad():
            for weights, masters in zip(self.weights, self.masters, strict=True):
                for weight, master in zip(weights, masters, strict=True):
                    weight.copy_(master)
