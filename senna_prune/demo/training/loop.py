"""The training loop of both stages: resumable, with a progress bar and a log of JSON Lines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from senna_prune.demo.training.checkpoints import load_checkpoint, save_checkpoint
from senna_prune.demo.training.optimizer import MasterAdamW

LOG_EVERY = 10

Piece = Callable[[], tuple[Tensor, dict[str, float]]]
"""Computes the loss of a part of a batch, and figures for the log."""


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes:
        name: of its checkpoint and its lines in the log.
        total_steps: steps until it is done.
        optimizer: holds everything that is trained.
        pieces: the pieces of one step's batch, given its number; all their randomness comes from that number, so a
            resumed run sees what the uninterrupted one would have seen.
        checkpoint_every: steps.
    """

    name: str
    total_steps: int
    optimizer: MasterAdamW
    pieces: Callable[[int], list[Piece]]
    checkpoint_every: int


def progress_bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
        TextColumn("{task.fields[note]}"),
        refresh_per_second=2,
    )


def run_stage(stage: Stage, folder: Path, workers: int) -> None:
    """Train from the stage's last checkpoint in `folder`, or from the start, to the end.

    Args:
        workers: pieces that are worked on side by side, each by one thread: on busy cores that wastes less than
            splitting every single operation. The result does not depend on it.
    """
    path = folder / f"{stage.name}.safetensors"
    if (state := load_checkpoint(path)) is not None:
        stage.optimizer.load_tensors(state)
    if stage.optimizer.steps >= stage.total_steps:
        return
    start, first = time.monotonic(), stage.optimizer.steps
    recent: list[dict[str, float]] = []
    with (
        progress_bar() as progress,
        (folder / "log.jsonl").open("a", encoding="utf-8") as log,
        ThreadPoolExecutor(workers) as pool,
    ):
        task = progress.add_task(stage.name, total=stage.total_steps, completed=first, note="")
        while stage.optimizer.steps < stage.total_steps:
            gradients, figures = _gradients(stage, pool)
            figures["gradient"] = stage.optimizer.step(gradients)
            step = stage.optimizer.steps
            recent.append(figures)
            if step % LOG_EVERY == 0 or step == stage.total_steps:
                means = {name: round(value, 4) for name, value in _means(recent).items()}
                pace = (time.monotonic() - start) / (step - first)
                left = round(pace * (stage.total_steps - step))
                log.write(json.dumps({"stage": stage.name, "step": step, "seconds_left": left, **means}) + "\n")
                log.flush()
                recent = []
                progress.update(task, note=" ".join(f"{name} {value:.3f}" for name, value in means.items()))
            progress.update(task, completed=step)
            if step % stage.checkpoint_every == 0 or step == stage.total_steps:
                save_checkpoint(path, stage.optimizer.tensors())


def _gradients(stage: Stage, pool: Executor) -> tuple[list[Sequence[Tensor | None]], dict[str, float]]:
    """Gradients of every piece of one step's batch, and the mean figures."""
    weights = stage.optimizer.all_weights

    def work(piece: Piece) -> tuple[Sequence[Tensor | None], dict[str, float]]:
        loss, figures = piece()
        # not backward(): pieces running side by side would race for the weights' .grad
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        return gradients, {"loss": float(loss.detach()), **figures}

    done = list(pool.map(work, stage.pieces(stage.optimizer.steps)))
    return [gradients for gradients, _ in done], _means([figures for _, figures in done])


def _means(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: sum(one[name] for one in figures) / len(figures) for name in figures[0]}


def batch_numbers(seed: int, step: int, batch: int, num_scenes: int) -> np.ndarray:
    """Scenes of one step, shape (batch,): every scene once per epoch, in an order drawn for that epoch."""
    places = np.arange(step * batch, (step + 1) * batch)
    epochs = places // num_scenes
    orders = {epoch: np.random.default_rng((seed, epoch)).permutation(num_scenes) for epoch in np.unique(epochs)}
    return np.array([orders[epoch][place % num_scenes] for epoch, place in zip(epochs, places, strict=True)])
