"""Searches how many visual tokens each camera should get: the calibrated ratios of Prune2Drive, for any method.

python examples/search_view_weights.py                 # Prune2Drive at 25 %, on 40 frames of the demo set
python examples/search_view_weights.py --retention 0.4 --frames 100 --trials 100
python examples/search_view_weights.py --model WEIGHTS --planning-set train.jsonl --image-root /data/nuscenes

The search needs labels, so a method with searched weights is no longer training-free: evaluate it on other frames.
Published is a TPE search (up to 1000 trials, 500 frames, ratios from 0.1 to 1, accuracy less 0.03 times the sum of
ratios). Here the budget holds the sum, so no penalty is needed; a third of the trials draws weights from 0.1 to 1, the
others vary the best so far; what counts is the mean log-probability of the true plan, as accuracy is too coarse for few
frames.
"""

# ruff: noqa: T201 - its output is what it prints

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from senna_prune.errors import SennaPruneError
from senna_prune.model.checkpoint import load_senna
from senna_prune.planner.encode import EncodedFrame
from senna_prune.planner.planner import Planner, pruner_for
from senna_prune.pruning import Budget
from senna_prune.task.answers import parse_answer
from senna_prune.task.labels import VIEW_LABELS
from senna_prune.task.sample import read_samples

DEMO = Path(__file__).resolve().parents[1] / "data" / "demo"
LOWEST = 0.1
"""Smallest weight that is tried, beside a largest of 1."""

Labelled = tuple[EncodedFrame, tuple[str, str]]


class Score(NamedTuple):
    """How well the true plans are met; compared by the first number."""

    log_probability: float
    accuracy: float


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(DEMO / "model"), help="checkpoint folder")
    parser.add_argument("--planning-set", type=Path, default=DEMO / "planning_set.jsonl")
    parser.add_argument("--image-root", type=Path, default=DEMO)
    parser.add_argument("--method", default="prune2drive", help="pruning method")
    parser.add_argument("--retention", type=float, default=0.25, help="mean share of visual tokens entering a layer")
    parser.add_argument("--frames", type=int, default=40, help="the first so many questions about plans")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(arguments)


def encode(planner: Planner, options: argparse.Namespace) -> list[Labelled]:
    """Frames up to the decoder, which every trial shares, and their true plans."""
    planned = read_samples(options.planning_set, "plan")
    labelled = []
    for sample in islice(planned, options.frames):
        views = [options.image_root / path for path in sample.view_paths()]
        truth = parse_answer(sample.answer)
        labelled.append((planner.encode(views, sample.question), (truth.speed, truth.path)))
    return labelled


def evaluate(
    planner: Planner, labelled: Sequence[Labelled], weights: Sequence[float], options: argparse.Namespace
) -> Score:
    """Score of one set of weights, in the order of the prompt's views."""
    budget = Budget.retention(options.retention)
    pruner = pruner_for(planner.model, options.method, budget, scope="per_view", view_weights=tuple(weights))
    plans = [(planner.decide(frame, pruner), truth) for frame, truth in labelled]
    logs = [math.log(max(plan.distribution[truth], 1e-9)) for plan, truth in plans]
    return Score(sum(logs) / len(logs), sum((plan.speed, plan.path) == truth for plan, truth in plans) / len(plans))


def propose(best: Sequence[float], trial: int, trials: int, draw: random.Random) -> list[float]:
    """Weights anywhere in the range first, near the best ones later."""
    if 3 * trial <= trials:
        return [draw.uniform(LOWEST, 1) for _ in best]
    near = [weight * math.exp(draw.gauss(0, 0.3)) for weight in best]
    return [max(weight / max(near), LOWEST) for weight in near]


def search(options: argparse.Namespace) -> tuple[list[float], Score]:
    """The best weights found and their score."""
    model, processor = load_senna(options.model, device=options.device)
    planner, draw = Planner(model, processor), random.Random(options.seed)
    labelled = encode(planner, options)
    best = [1.0] * len(VIEW_LABELS)
    score = evaluate(planner, labelled, best, options)
    print(f"{len(labelled)} frames; equal weights: {show(score)}")
    for trial in range(1, options.trials + 1):
        weights = propose(best, trial, options.trials, draw)
        found = evaluate(planner, labelled, weights, options)
        if found > score:
            best, score = weights, found
            print(f"trial {trial}: {show(score)}  {', '.join(f'{weight:.2f}' for weight in best)}")
    return best, score


def show(score: Score) -> str:
    return f"log-probability {score.log_probability:.3f}, accuracy {100 * score.accuracy:.1f} %"


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        weights, _ = search(options)
    except SennaPruneError as error:
        print(error, file=sys.stderr)
        return 2
    rounded = ", ".join(f"{weight:.2f}" for weight in weights)
    print(f"views: {', '.join(VIEW_LABELS)}")
    print(f"pruning.options.{options.method}: {{scope: per_view, view_weights: [{rounded}]}}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
