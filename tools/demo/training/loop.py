"""The training loop of all stages: resumable, with a progress bar and a log of JSON Lines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from senna_prune.errors import CheckpointError
from senna_prune.files import accessing
from tools.demo.training.checkpoints import ELSE, Identity, load_checkpoint, save_checkpoint
from tools.demo.training.optimizer import MasterOptimizer

LOG = "log.jsonl"
LOG_EVERY = 10

Piece = Callable[[], tuple[Tensor, dict[str, float]]]
"""Computes the loss of a part of a batch, and figures for the log."""


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes:
        name: of its checkpoint and its lines in the log.
        optimizer: holds everything that is trained, and how long.
        pieces: the pieces of one step's batch, given its number; all their randomness comes from that number, so a
            resumed run sees what the uninterrupted one would have seen.
        checkpoint_every: steps.
        validate: measures the model on held-out scenes, given the pool of workers; its figures go into the log.
        validate_every: steps.
    """

    name: str
    optimizer: MasterOptimizer
    pieces: Callable[[int], list[Piece]]
    checkpoint_every: int
    validate: Callable[[Executor], dict[str, float]] | None = None
    validate_every: int = 100


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


def run_stage(stage: Stage, folder: Path, workers: int, identity: Identity) -> None:
    """Train from the stage's last checkpoint in `folder`, or from the start, to the end.

    Args:
        workers: pieces that are worked on side by side, each by one thread: on busy cores that wastes less than
            splitting every single operation. The result does not depend on it.
        identity: of the run; a checkpoint of another one is refused.

    Raises:
        CheckpointError: the checkpoint belongs to another run, or is damaged.
        FileError: checkpoint or log cannot be written.
    """
    path = folder / f"{stage.name}.safetensors"
    if (state := load_checkpoint(path, identity)) is not None:
        try:
            stage.optimizer.load_tensors(state)
        except ValueError as error:
            raise CheckpointError(str(error), where=path, hint=ELSE) from error
        except (KeyError, RuntimeError) as error:
            raise CheckpointError("tensors are missing or of other shapes", where=path, hint="remove it") from error
    if stage.optimizer.steps >= stage.optimizer.total_steps:
        return
    start, first = time.monotonic(), stage.optimizer.steps
    recent: list[dict[str, float]] = []
    with accessing(folder / LOG, "written"):
        log = (folder / LOG).open("a", encoding="utf-8")
    with log, progress_bar() as progress, ThreadPoolExecutor(workers) as pool:
        task = progress.add_task(stage.name, total=stage.optimizer.total_steps, completed=first, note="")
        while stage.optimizer.steps < stage.optimizer.total_steps:
            gradients, figures = _gradients(stage, pool)
            figures["gradient"] = stage.optimizer.step(gradients)
            step = stage.optimizer.steps
            recent.append(figures)
            if step % LOG_EVERY == 0 or step == stage.optimizer.total_steps:
                means = _means(recent)
                pace = (time.monotonic() - start) / (step - first)
                _write_line(log, stage, {"seconds_left": pace * (stage.optimizer.total_steps - step), **means})
                recent = []
                progress.update(task, note=" ".join(f"{name} {value:.3f}" for name, value in means.items()))
            progress.update(task, completed=step)
            if step % stage.checkpoint_every == 0 or step == stage.optimizer.total_steps:
                save_checkpoint(path, stage.optimizer.tensors(), identity)
            if stage.validate and (step % stage.validate_every == 0 or step == stage.optimizer.total_steps):
                held_out = stage.validate(pool)
                _write_line(log, stage, held_out)
                shown = ", ".join(f"{name} {value:.3f}" for name, value in held_out.items())
                progress.console.print(f"{stage.name} {step}/{stage.optimizer.total_steps}: {shown}")


def _write_line(log: IO[str], stage: Stage, figures: dict[str, float]) -> None:
    rounded = {name: round(value, 4) for name, value in figures.items()}
    with accessing(log.name, "written"):
        log.write(json.dumps({"stage": stage.name, "step": stage.optimizer.steps, **rounded}) + "\n")
        log.flush()


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
