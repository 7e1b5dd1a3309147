"""All numbers of the demo driver's training in one place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from senna_prune.errors import ConfigError, brief, one_of
from senna_prune.model.configuration import SennaConfig
from tools.demo.training.question_pool import PERCEPTION, Mix

PATCH = 14
"""Side of a patch, pixels."""
VISION_HEADS = 4


def _number(default: float, least: float, most: float) -> Any:
    return field(default=default, metadata={"least": least, "most": most})


@dataclass(frozen=True)
class Recipe:
    """How the demo driver is trained. The defaults give the bundled model.

    Attributes:
        seed: of weights, order and questions.
        world_seed: of the training scenes; held-out scenes have others.
        num_scenes: training scenes, seen once per epoch.
        tower_steps, tower_batch, tower_lr: stage 1, tower and projector name what each token shows.
        answer_steps, answer_batch, answer_lr: stage 2, the decoder answers; tower and projector stay as they are.
        warm_up, cool_down: share of each stage in which the rate rises, and in which it falls to zero at its end.
        beta: AdamW's second; weight_decay, clip: largest gradient norm.
        long_plans, short_plans, perception, road_users, motions: questions about each scene in stage 2.
        stretched: share of scenes in which a visual token advances the position by exp(U(least, most)) instead of 1.
        least_stretch, most_stretch: bounds of that exponent.
        checkpoint_every: steps between checkpoints.
        validate_every, validation_scenes: steps between measurements on held-out scenes, and their number.
        image_size, num_view_tokens, vision_width, vision_layers, width, layers, heads, mlp: of the model.

    Raises:
        ConfigError: a number that no training can have.
    """

    seed: int = _number(0, 0, 2**32 - 1)
    world_seed: int = _number(100, 0, 2**32 - 1)
    num_scenes: int = _number(6144, 1, 10**6)
    tower_steps: int = _number(600, 0, 10**6)
    tower_batch: int = _number(8, 1, 4096)
    tower_lr: float = _number(2e-3, 1e-9, 1.0)
    answer_steps: int = _number(2400, 0, 10**6)
    answer_batch: int = _number(4, 1, 4096)
    answer_lr: float = _number(2.5e-3, 1e-9, 1.0)
    warm_up: float = _number(0.02, 0.0, 0.5)
    cool_down: float = _number(0.3, 0.0, 0.5)
    beta: float = _number(0.98, 0.0, 0.9999)
    weight_decay: float = _number(0.01, 0.0, 1.0)
    clip: float = _number(1.0, 1e-9, 1e9)
    long_plans: int = _number(1, 1, 100)
    short_plans: int = _number(5, 0, 100)
    perception: int = _number(len(PERCEPTION) - 1, 0, len(PERCEPTION))
    road_users: int = _number(1, 0, 100)
    motions: int = _number(1, 0, 100)
    stretched: float = _number(0.7, 0.0, 1.0)
    least_stretch: float = _number(-1.6, -10.0, 2.0)
    most_stretch: float = _number(0.25, -10.0, 2.0)
    checkpoint_every: int = _number(20, 1, 10**6)
    validate_every: int = _number(200, 1, 10**6)
    validation_scenes: int = _number(96, 1, 10**4)
    image_size: int = _number(224, PATCH, 32 * PATCH)
    num_view_tokens: int = _number(128, 1, 256)  # six views and a question stay within the model's 2048 positions
    vision_width: int = _number(128, 1, 1024)
    vision_layers: int = _number(4, 2, 100)
    width: int = _number(128, 1, 1024)
    layers: int = _number(12, 1, 100)
    heads: int = _number(4, 1, 64)
    mlp: int = _number(344, 1, 4096)

    def __post_init__(self) -> None:
        for one in fields(self):
            value, least, most = getattr(self, one.name), one.metadata["least"], one.metadata["most"]
            if not (math.isfinite(value) and least <= value <= most):
                raise ConfigError(f"{value} is not between {least:g} and {most:g}", where=one.name)
        if self.least_stretch > self.most_stretch:
            raise ConfigError("is larger than most_stretch", where="least_stretch")
        side = self.image_size // PATCH
        for name, wrong, problem in (
            ("image_size", self.image_size % PATCH or 32 % side, f"is not {PATCH} times a power of 2"),
            ("width", self.width % (2 * self.heads), f"is no multiple of {2 * self.heads}"),
            ("vision_width", self.vision_width % VISION_HEADS, f"is no multiple of {VISION_HEADS}"),
        ):
            if wrong:
                raise ConfigError(f"{getattr(self, name)} {problem}", where=name)

    @classmethod
    def with_overrides(cls, assignments: Sequence[str]) -> Recipe:
        """The default recipe with some numbers changed, each given as `key=value`.

        Raises:
            ConfigError: unknown key, or a value that is not a number, or not a possible one.
        """
        kinds = {one.name: int if isinstance(one.default, int) else float for one in fields(cls)}
        values: dict[str, Any] = {}
        for assignment in assignments:
            key, _, text = assignment.partition("=")
            one_of(key, kinds, "recipe", "number")
            try:
                values[key] = kinds[key](text)
            except ValueError:
                kind = "whole number" if kinds[key] is int else "number"
                raise ConfigError(f"{brief(text)} is not a {kind}", where=key) from None
        return cls(**values)

    @property
    def mix(self) -> Mix:
        """Questions about each scene."""
        return Mix(self.long_plans, self.short_plans, self.perception, self.road_users, self.motions)

    def model_config(self, vocab_size: int) -> SennaConfig:
        """The model's configuration; special tokens as `tokenizer.train_tokenizer` numbers them."""
        return SennaConfig(
            vision_config={
                "hidden_size": self.vision_width,
                "intermediate_size": 4 * self.vision_width,
                "num_hidden_layers": self.vision_layers,
                "num_attention_heads": VISION_HEADS,
                "image_size": self.image_size,
                "patch_size": PATCH,
                "projection_dim": self.vision_width,
            },
            text_config={
                "vocab_size": vocab_size,
                "hidden_size": self.width,
                "intermediate_size": self.mlp,
                "num_hidden_layers": self.layers,
                "num_attention_heads": self.heads,
                "num_key_value_heads": self.heads,
                "max_position_embeddings": 2048,
                "rms_norm_eps": 1e-5,
                "pad_token_id": 0,
                "bos_token_id": 1,
                "eos_token_id": 2,
            },
            num_view_tokens=self.num_view_tokens,
        )
