"""The two stages of the demo driver's training, as losses of one step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import exp
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from senna_prune.model.modeling import SennaForConditionalGeneration
from tools.demo.training.attributes import AttributeHeads
from tools.demo.training.checkpoints import Identity
from tools.demo.training.loop import Piece, Stage, batch_numbers, run_stage
from tools.demo.training.optimizer import MasterOptimizer
from tools.demo.training.packing import LayerStep, Packer, ViewHead, answer_loss, layer_step
from tools.demo.training.pictures import TrainingScene
from tools.demo.training.question_pool import sample_questions
from tools.demo.training.recipe import Recipe
from tools.demo.training.validation import HeldOut

STAGES = ("tower", "answers")
_PIECE = 2
"""Scenes that are worked on at once: few enough for their tensors to stay in the heap, see `memory`."""

Scenes = Sequence[TrainingScene]


def train_tower(
    model: SennaForConditionalGeneration, scenes: Scenes, recipe: Recipe, folder: Path, workers: int, identity: Identity
) -> None:
    """Stage 1: tower and projector learn what each token shows, through heads that are thrown away."""
    torch.manual_seed(recipe.seed + 1)
    heads = AttributeHeads(recipe.width, recipe.vision_width).to(model.device, model.dtype)
    senna = model.model

    def work(part: Scenes) -> tuple[Tensor, dict[str, float]]:
        coverage = torch.cat([scene.coverage() for scene in part]).to(model.device)
        return heads.loss(senna, _pixels(part, model).flatten(0, 1), coverage)

    def pieces(step: int) -> list[Piece]:
        chosen, _ = _batch(scenes, recipe, 1, step, recipe.tower_batch)
        return [partial(work, chosen[start : start + _PIECE]) for start in range(0, len(chosen), _PIECE)]

    optimizer = _optimizer(
        recipe,
        [senna.vision_tower, senna.multi_modal_projector, heads],
        senna.vision_tower.encoder.layers,
        recipe.tower_lr,
        recipe.tower_steps,
    )
    run_stage(Stage(STAGES[0], optimizer, pieces, recipe.checkpoint_every), folder, workers, identity)


def train_answers(
    model: SennaForConditionalGeneration,
    packer: Packer,
    scenes: Scenes,
    recipe: Recipe,
    folder: Path,
    workers: int,
    identity: Identity,
    step: LayerStep = layer_step,
) -> None:
    """Stage 2: the decoder learns to answer, several questions about each scene at once.

    Tower and projector stay as they are: what a token shows, and where the class token looks, is not forgotten.

    Args:
        step: of a decoder layer, perhaps compiled.
    """
    torch.manual_seed(recipe.seed + 2)
    views = ViewHead(model.config.num_views, recipe.width).to(model.device, model.dtype)
    model.model.vision_tower.requires_grad_(False)
    model.model.multi_modal_projector.requires_grad_(False)
    held_out = HeldOut(recipe.validation_scenes)

    def pieces(number: int) -> list[Piece]:
        chosen, rng = _batch(scenes, recipe, 2, number, recipe.answer_batch)
        packs = [
            packer.pack(sample_questions(rng, scene.street, scene.things, recipe.mix), _stretch(rng, recipe))
            for scene in chosen
        ]

        def work(start: int) -> tuple[Tensor, dict[str, float]]:
            part = slice(start, start + _PIECE)
            features = model.get_image_features(_pixels(chosen[part], model)).tokens
            return answer_loss(model, packer, features, packs[part], views, step)

        return [partial(work, start) for start in range(0, len(chosen), _PIECE)]

    decoder = model.model.language_model
    optimizer = _optimizer(
        recipe, [decoder, model.lm_head, views], decoder.layers, recipe.answer_lr, recipe.answer_steps
    )
    stage = Stage(
        STAGES[1],
        optimizer,
        pieces,
        recipe.checkpoint_every,
        validate=lambda pool: held_out.measure(model, packer, pool),
        validate_every=recipe.validate_every,
    )
    run_stage(stage, folder, workers, identity)


def _stretch(rng: np.random.Generator, recipe: Recipe) -> float:
    """By how much a visual token advances the position: pruning with renumbered positions must look familiar."""
    drawn = exp(rng.uniform(recipe.least_stretch, recipe.most_stretch))
    return drawn if rng.random() < recipe.stretched else 1.0


def _optimizer(
    recipe: Recipe, trained: Sequence[nn.Module], layers: nn.Module, peak: float, total_steps: int
) -> MasterOptimizer:
    return MasterOptimizer(
        [weight for part in trained for weight in part.parameters()],
        [weight for weight in layers.parameters() if weight.ndim == 2],
        peak=peak,
        total_steps=total_steps,
        warm_up=recipe.warm_up,
        cool_down=recipe.cool_down,
        clip=recipe.clip,
        beta=recipe.beta,
        weight_decay=recipe.weight_decay,
    )


def _pixels(scenes: Scenes, model: SennaForConditionalGeneration) -> Tensor:
    """Shape (B, 6, 3, image size, image size)."""
    size = model.config.vision_config.image_size
    return torch.stack([scene.pixel_values(size) for scene in scenes]).to(model.device, model.dtype)


def _batch(
    scenes: Scenes, recipe: Recipe, stage: int, step: int, size: int
) -> tuple[list[TrainingScene], np.random.Generator]:
    """Scenes and the randomness of one step; half of the scenes are mirrored."""
    rng = np.random.default_rng((recipe.seed, stage, step))
    chosen = [scenes[number] for number in batch_numbers(recipe.seed + stage, step, size, len(scenes)).tolist()]
    mirrored = rng.random(size) < 0.5
    return [scene.mirror() if flip else scene for scene, flip in zip(chosen, mirrored, strict=True)], rng
