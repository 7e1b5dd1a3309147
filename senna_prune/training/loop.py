"""The training loop of both stages: resumable, with a progress bar and a log of JSON Lines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from senna_prune.training.checkpoints import load_checkpoint, save_checkpoint
from senna_prune.training.optimizer import MasterAdamW

LOG_EVERY = 10


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes:
        name: of its checkpoint and its lines in the log.
        total_steps: steps until it is done.
        optimizer: holds everything that is trained.
        losses: the losses of the pieces of one step's batch, given its number, each with figures for the log; all its
            randomness comes from that number, so a resumed run sees what the uninterrupted one would have seen.
        checkpoint_every: steps.
    """

    name: str
    total_steps: int
    optimizer: MasterAdamW
    losses: Callable[[int], Iterator[tuple[Tensor, dict[str, float]]]]
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


def run_stage(stage: Stage, folder: Path) -> None:
    """Train from the stage's last checkpoint in `folder`, or from the start, to the end."""
    path = folder / f"{stage.name}.safetensors"
    if (state := load_checkpoint(path)) is not None:
        stage.optimizer.load_tensors(state)
    if stage.optimizer.steps >= stage.total_steps:
        return
    start, first = time.monotonic(), stage.optimizer.steps
    sums: dict[str, float] = {}
    with progress_bar() as progress, (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        task = progress.add_task(stage.name, total=stage.total_steps, completed=first, note="")
        while stage.optimizer.steps < stage.total_steps:
            figures = {**_backward(stage), "gradient": stage.optimizer.step()}
            step = stage.optimizer.steps
            sums = {name: sums.get(name, 0.0) + value for name, value in figures.items()}
            if step % LOG_EVERY == 0 or step == stage.total_steps:
                means = {name: round(value / ((step - 1) % LOG_EVERY + 1), 4) for name, value in sums.items()}
                pace = (time.monotonic() - start) / (step - first)
                left = round(pace * (stage.total_steps - step))
                log.write(json.dumps({"stage": stage.name, "step": step, "seconds_left": left, **means}) + "\n")
                log.flush()
                sums = {}
                progress.update(task, note=" ".join(f"{name} {value:.3f}" for name, value in means.items()))
            progress.update(task, completed=step)
            if step % stage.checkpoint_every == 0 or step == stage.total_steps:
                save_checkpoint(path, stage.optimizer.tensors())


def _backward(stage: Stage) -> dict[str, float]:
    """Gradients of one step, the mean over the pieces of its batch. Returns the mean figures."""
    pieces = []
    for loss, figures in stage.losses(stage.optimizer.steps):
        loss.backward()
        pieces.append({"loss": float(loss.detach()), **figures})
    stage.optimizer.scale_gradients(1 / len(pieces))
    return {name: sum(piece[name] for piece in pieces) / len(pieces) for name in pieces[0]}


def batch_numbers(seed: int, step: int, batch: int, num_scenes: int) -> np.ndarray:
    """Scenes of one step, shape (batch,): every scene once per epoch, in an order drawn for that epoch."""
    places = np.arange(step * batch, (step + 1) * batch)
    epochs = places // num_scenes
    orders = {epoch: np.random.default_rng((seed, epoch)).permutation(num_scenes) for epoch in np.unique(epochs)}
    return np.array([orders[epoch][place % num_scenes] for epoch, place in zip(epochs, places, strict=True)])
