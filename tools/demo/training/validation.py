"""Accuracy on held-out scenes during training, unpruned and with a random quarter of the visual tokens.

No other pruning method runs here: the recipe must not know them.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial

import torch
from torch import Tensor

from senna_prune.model.modeling import IGNORED_LABEL, SennaForConditionalGeneration
from senna_prune.task.labels import plan_text
from senna_prune.task.prompts import planning_question
from tools.demo.training.packing import Packer, collate, packed_hidden
from tools.demo.training.pictures import TrainingScene
from tools.demo.training.question_pool import Question, object_questions
from tools.demo.world.scenes import make_scene, scene_rng

VALIDATION_SEED = 2
"""World seed of these scenes: neither those of training nor the bundle's."""
KEPT = 0.25
Asked = list[tuple[str, Question]]


class HeldOut:
    """Some scenes with the questions that evaluation asks about them; rendered at once.

    Args:
        num_scenes: their number.
    """

    def __init__(self, num_scenes: int) -> None:
        self.scenes: list[tuple[int, TrainingScene, Asked]] = []
        for number in range(num_scenes):
            made = make_scene(scene_rng(VALIDATION_SEED, number))
            scene = TrainingScene.of(made.situation.street, made.layout)
            situation = made.situation
            asked = planning_question(situation.speed, situation.command.value)
            road_users, motions = object_questions(scene.things)
            questions = [("plan", Question(asked, plan_text(*situation.plan)))]
            questions += [("vru", one) for one in road_users] + [("motion", one) for one in motions]
            self.scenes.append((number, scene, questions))

    def measure(self, model: SennaForConditionalGeneration, packer: Packer, pool: Executor) -> dict[str, float]:
        """Share of questions of each kind that greedy decoding answers exactly, and of plans off a quarter."""
        found: dict[str, list[bool]] = {}
        for row in pool.map(partial(_right, model, packer), self.scenes):
            for kind, right in row:
                found.setdefault(kind, []).append(right)
        return {f"held_out_{kind}": sum(rights) / len(rights) for kind, rights in found.items()}


@torch.no_grad()
def _right(
    model: SennaForConditionalGeneration, packer: Packer, job: tuple[int, TrainingScene, Asked]
) -> list[tuple[str, bool]]:
    number, scene, asked = job
    pixels = scene.pixel_values(model.config.vision_config.image_size).to(model.device, model.dtype)
    features = model.get_image_features(pixels[None]).tokens[0]
    rights = right_answers(model, packer, features, [question for _, question in asked])
    (pruned,) = right_answers(model, packer, features, [asked[0][1]], random_share(packer, KEPT, number))
    return [(kind, right) for (kind, _), right in zip(asked, rights, strict=True)] + [("random_quarter", pruned)]


@torch.no_grad()
def right_answers(
    model: SennaForConditionalGeneration,
    packer: Packer,
    features: Tensor,
    questions: Sequence[Question],
    kept: Tensor | None = None,
) -> list[bool]:
    """For every question about one scene: whether greedy decoding gives exactly its answer.

    Teacher-forced: all tokens are right if and only if greedy decoding writes them.

    Args:
        features: visual tokens, shape (views, T, D).
        kept: as for `packed_hidden`.
    """
    batch = collate([packer.pack(questions)], packer.processor.tokenizer.pad_token_id, model.dtype, model.device)
    hidden, _ = packed_hidden(model, packer, features[None], batch, kept=kept)
    wrong = (model.lm_head(hidden).argmax(dim=-1) != batch.labels) & (batch.labels != IGNORED_LABEL)
    missed = set(batch.blocks[wrong].tolist())
    return [number not in missed for number in range(1, len(questions) + 1)]


def random_share(packer: Packer, share: float, seed: int) -> Tensor:
    """Places of the prefix's words and of a random share of its visual tokens."""
    assert packer.prefix is not None
    visual = packer.prefix == packer.processor.image_token_id
    drawn = torch.rand(len(visual), generator=torch.Generator().manual_seed(seed))
    return (~visual | (drawn <= drawn[visual].quantile(share))).nonzero().flatten()
