"""The three stages of the demo driver's training, as losses of one step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import exp
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from senna_prune.model.modeling import SennaForConditionalGeneration
from tools.demo.training.attributes import AttributeHeads, attribute_loss, picture_attributes
from tools.demo.training.checkpoints import Identity
from tools.demo.training.loop import Piece, Stage, batch_numbers, run_stage
from tools.demo.training.optimizer import Groups, MasterOptimizer
from tools.demo.training.packing import LayerStep, Packer, ViewHead, answer_loss, layer_step
from tools.demo.training.pictures import TrainingScene
from tools.demo.training.question_pool import sample_questions
from tools.demo.training.recipe import Recipe
from tools.demo.training.validation import HeldOut

STAGES = ("attributes", "answers", "depth")
_PIECE = 2
"""Scenes that are worked on at once: few enough for their tensors to stay in the heap, see `memory`."""

Scenes = Sequence[TrainingScene]


def train_attributes(
    model: SennaForConditionalGeneration, scenes: Scenes, recipe: Recipe, folder: Path, workers: int, identity: Identity
) -> None:
    """Stage 1: tower, projector and adapter learn what is in each picture, through heads that are thrown away."""
    torch.manual_seed(recipe.seed + 1)
    heads = AttributeHeads(recipe.num_view_tokens, recipe.width, recipe.vision_width).to(model.device, model.dtype)
    senna = model.model
    parts = (senna.vision_tower, senna.multi_modal_projector, senna.img_adapter, heads)
    weights = [weight for part in parts for weight in part.parameters()]
    total = round(recipe.attribute_epochs * recipe.num_scenes / recipe.attribute_batch)

    def work(part: Scenes) -> tuple[Tensor, dict[str, float]]:
        targets = torch.from_numpy(np.concatenate([picture_attributes(scene.street) for scene in part]))
        pixels = _pixels(part, recipe.image_size, model).flatten(0, 1)
        found = [attribute_loss(logits, targets.to(model.device)) for logits in heads(model.model, pixels)]
        rights = {f"right_{name}": right for name, (_, right) in zip(("all", "each", "class"), found, strict=True)}
        return torch.stack([loss for loss, _ in found]).sum(), rights

    def pieces(step: int) -> list[Piece]:
        chosen, _ = _batch(scenes, recipe, 1, step, recipe.attribute_batch)
        return [partial(work, part) for part in _parts(chosen)]

    optimizer = _optimizer(model, [(weights, recipe.attribute_lr)], total, recipe)
    run_stage(Stage(STAGES[0], total, optimizer, pieces, recipe.checkpoint_every), folder, workers, identity)


def train_answers(
    model: SennaForConditionalGeneration,
    packer: Packer,
    scenes: Scenes,
    recipe: Recipe,
    folder: Path,
    workers: int,
    identity: Identity,
    *,
    deep: bool,
    step: LayerStep = layer_step,
) -> None:
    """Stages 2 and 3: connector and decoder learn to answer, several questions about each scene at once.

    The tower stays as it is, as LLaVA's does: what it shows, and where its class token looks, is not forgotten.

    Args:
        deep: stage 3, with the rate and length of that.
        step: of a decoder layer, perhaps compiled.
    """
    stage_number = 3 if deep else 2
    epochs, size, peak = (
        (recipe.depth_epochs, recipe.depth_batch, recipe.depth_lr)
        if deep
        else (recipe.answer_epochs, recipe.answer_batch, recipe.answer_lr)
    )
    torch.manual_seed(recipe.seed + stage_number)
    views = ViewHead(model.config.num_views, recipe.width).to(model.device, model.dtype)
    model.model.vision_tower.requires_grad_(False)
    connector = [*model.model.multi_modal_projector.parameters(), *model.model.img_adapter.parameters()]
    decoder = [*model.model.language_model.parameters(), *model.lm_head.parameters(), *views.parameters()]
    total = round(epochs * recipe.num_scenes / size)
    held_out = HeldOut(recipe.validation_scenes)

    def pieces(number: int) -> list[Piece]:
        chosen, rng = _batch(scenes, recipe, stage_number, number, size)
        packs = [
            packer.pack(sample_questions(rng, scene.street, scene.things, recipe.mix), _stretch(rng, recipe))
            for scene in chosen
        ]

        def work(start: int) -> tuple[Tensor, dict[str, float]]:
            part = slice(start, start + _PIECE)
            return answer_loss(model, packer, _pixels(chosen[part], recipe.image_size, model), packs[part], views, step)

        return [partial(work, start) for start in range(0, len(chosen), _PIECE)]

    stage = Stage(
        STAGES[stage_number - 1],
        total,
        _optimizer(model, [(decoder, peak), (connector, recipe.connector_lr)], total, recipe),
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
    model: SennaForConditionalGeneration, groups: Groups, total_steps: int, recipe: Recipe
) -> MasterOptimizer:
    layers = (model.model.vision_tower.encoder.layers, model.model.language_model.layers)
    return MasterOptimizer(
        groups,
        [weight for part in layers for weight in part.parameters() if weight.ndim == 2],
        total_steps=total_steps,
        warm_up=recipe.warm_up,
        clip=recipe.clip,
        betas=recipe.betas,
        weight_decay=recipe.weight_decay,
    )


def _parts(chosen: Scenes) -> list[Scenes]:
    return [chosen[start : start + _PIECE] for start in range(0, len(chosen), _PIECE)]


def _pixels(scenes: Scenes, image_size: int, model: SennaForConditionalGeneration) -> Tensor:
    """Shape (B, 6, 3, image_size, image_size)."""
    return torch.stack([scene.pixel_values(image_size) for scene in scenes]).to(model.device, model.dtype)


def _batch(
    scenes: Scenes, recipe: Recipe, stage: int, step: int, size: int
) -> tuple[list[TrainingScene], np.random.Generator]:
    """Scenes and the randomness of one step; half of the scenes are mirrored."""
    rng = np.random.default_rng((recipe.seed, stage, step))
    chosen = [scenes[number] for number in batch_numbers(recipe.seed + stage, step, size, len(scenes)).tolist()]
    mirrored = rng.random(size) < 0.5
    return [scene.mirror() if flip else scene for scene, flip in zip(chosen, mirrored, strict=True)], rng
