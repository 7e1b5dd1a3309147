"""The two stages of the demo driver's training, as losses of one step."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from senna_prune.demo.training.attributes import AttributeHead, attribute_loss, picture_attributes
from senna_prune.demo.training.loop import Piece, Stage, batch_numbers, run_stage
from senna_prune.demo.training.mirror import mirror_pictures, mirror_street
from senna_prune.demo.training.optimizer import Groups, MasterAdamW
from senna_prune.demo.training.packing import Packer, answer_loss
from senna_prune.demo.training.pictures import TrainingScenes, pixel_values
from senna_prune.demo.training.question_pool import sample_questions
from senna_prune.demo.training.recipe import Recipe
from senna_prune.demo.world.street import Street
from senna_prune.model.modeling import SennaForConditionalGeneration

_PIECE = 4
"""Scenes that are worked on at once."""


def train_attributes(
    model: SennaForConditionalGeneration, scenes: TrainingScenes, recipe: Recipe, folder: Path, workers: int
) -> None:
    """Stage 1: tower, projector and adapter learn what is in each picture, through a head that is thrown away."""
    torch.manual_seed(recipe.seed + 1)
    head = AttributeHead(recipe.num_view_tokens, recipe.width).to(model.device, model.dtype)
    vision = _vision_parameters(model)
    total = round(recipe.attribute_epochs * recipe.num_scenes / recipe.attribute_batch)

    def pieces(step: int) -> list[Piece]:
        pixels, streets, _ = _batch(scenes, recipe, 1, step, recipe.attribute_batch)

        def work(part: slice) -> tuple[Tensor, dict[str, float]]:
            tokens = model.get_image_features(pixels[part].to(model.device, model.dtype)).tokens.flatten(0, 1)
            targets = torch.from_numpy(np.concatenate([picture_attributes(street) for street in streets[part]]))
            value, right = attribute_loss(head(tokens), targets.to(model.device))
            return value, {"right": right}

        return [partial(work, part) for part in _parts(len(streets))]

    optimizer = _optimizer([([*vision, *head.parameters()], recipe.attribute_lr)], total, recipe)
    run_stage(Stage("attributes", total, optimizer, pieces, recipe.checkpoint_every), folder, workers)


def train_answers(
    model: SennaForConditionalGeneration,
    packer: Packer,
    scenes: TrainingScenes,
    recipe: Recipe,
    folder: Path,
    workers: int,
) -> None:
    """Stage 2: the whole model learns to answer, several questions about each scene at once."""
    vision = _vision_parameters(model)
    ours = {id(parameter) for parameter in vision}
    decoder = [parameter for parameter in model.parameters() if id(parameter) not in ours]
    total = round(recipe.answer_epochs * recipe.num_scenes / recipe.answer_batch)

    def pieces(step: int) -> list[Piece]:
        pixels, streets, rng = _batch(scenes, recipe, 2, step, recipe.answer_batch)
        packs = [
            packer.pack(sample_questions(rng, street, recipe.long_plans, recipe.short_plans, recipe.perception))
            for street in streets
        ]

        def work(part: slice) -> tuple[Tensor, dict[str, float]]:
            return answer_loss(model, packer, pixels[part].to(model.device, model.dtype), packs[part])

        return [partial(work, part) for part in _parts(len(streets))]

    optimizer = _optimizer([(decoder, recipe.answer_lr), (vision, recipe.vision_lr)], total, recipe)
    run_stage(Stage("answers", total, optimizer, pieces, recipe.checkpoint_every), folder, workers)


def _optimizer(groups: Groups, total_steps: int, recipe: Recipe) -> MasterAdamW:
    return MasterAdamW(
        groups,
        total_steps=total_steps,
        warm_up=recipe.warm_up,
        clip=recipe.clip,
        betas=recipe.betas,
        weight_decay=recipe.weight_decay,
    )


def _vision_parameters(model: SennaForConditionalGeneration) -> list[torch.nn.Parameter]:
    senna = model.model
    parts = (senna.vision_tower, senna.multi_modal_projector, senna.img_adapter)
    return [parameter for part in parts for parameter in part.parameters()]


def _parts(size: int) -> list[slice]:
    """A batch in pieces small enough for their tensors to stay in the heap, see `memory`."""
    return [slice(start, start + _PIECE) for start in range(0, size, _PIECE)]


def _batch(
    scenes: TrainingScenes, recipe: Recipe, stage: int, step: int, size: int
) -> tuple[Tensor, list[Street], np.random.Generator]:
    """Pixel values, streets and the randomness of one step; half of the scenes are mirrored."""
    rng = np.random.default_rng((recipe.seed, stage, step))
    numbers = batch_numbers(recipe.seed + stage, step, size, len(scenes))
    pictures = scenes.pictures(numbers)
    streets = [scenes.streets[number] for number in numbers.tolist()]
    for place in np.flatnonzero(rng.random(size) < 0.5).tolist():
        pictures[place] = mirror_pictures(pictures[place])
        streets[place] = mirror_street(streets[place])
    return pixel_values(pictures, recipe.image_size), streets, rng
