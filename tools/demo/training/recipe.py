"""All numbers of the demo driver's training in one place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from senna_prune.errors import ConfigError, nearest_of
from senna_prune.model.configuration import SennaConfig
from tools.demo.training.question_pool import PERCEPTION, Mix

PATCH = 14
"""Side of a patch, pixels."""


@dataclass(frozen=True)
class Recipe:
    """How the demo driver is trained. The defaults give the bundled model.

    Attributes:
        seed: of weights, order and questions.
        world_seed: of the training scenes; held-out scenes have others.
        num_scenes: training scenes, seen once per epoch.
        attribute_epochs, attribute_batch, attribute_lr: stage 1, attributes per picture.
        answer_epochs, answer_batch, answer_lr: stage 2, answers of a decoder of `first_layers` layers.
        depth_epochs, depth_batch, depth_lr: stage 3, answers once the decoder has been made `layers` deep.
        connector_lr: of projector and adapter in both; the tower stays as stage 1 left it.
        long_plans, short_plans, perception, road_users, motions: questions about each scene in stages 2 and 3.
        stretched: share of scenes in which a visual token advances the position by exp(U(least, most)) instead of 1.
        least_stretch, most_stretch: bounds of that exponent.
        warm_up: steps of linear warm-up of each stage, before a cosine.
        clip: largest gradient norm.
        checkpoint_every: steps between checkpoints.
        validate_every, validation_scenes: steps between measurements on held-out scenes, and their number.
        image_size, num_view_tokens, vision_width, vision_layers, width, first_layers, layers, heads, mlp: of the model.

    Raises:
        ConfigError: a number that no training can have.
    """

    seed: int = 0
    world_seed: int = 100
    num_scenes: int = 20480
    attribute_epochs: float = 0.5
    attribute_batch: int = 32
    attribute_lr: float = 1e-3
    answer_epochs: float = 0.55
    answer_batch: int = 8
    answer_lr: float = 3e-3
    depth_epochs: float = 0.16
    depth_batch: int = 8
    depth_lr: float = 1.5e-3
    connector_lr: float = 5e-4
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    long_plans: int = 1
    short_plans: int = 5
    perception: int = 17
    road_users: int = 1
    motions: int = 1
    stretched: float = 0.7
    least_stretch: float = -1.6
    most_stretch: float = 0.25
    warm_up: int = 40
    clip: float = 1.0
    checkpoint_every: int = 10
    validate_every: int = 100
    validation_scenes: int = 96
    image_size: int = 224
    num_view_tokens: int = 128
    vision_width: int = 128
    vision_layers: int = 5
    width: int = 128
    first_layers: int = 8
    layers: int = 24
    heads: int = 4
    mlp: int = 344

    def __post_init__(self) -> None:
        for name, (least, most) in _BOUNDS.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and least <= value <= most):
                raise ConfigError(f"{value} is not between {least:g} and {most:g}", where=name)
        if self.least_stretch > self.most_stretch:
            raise ConfigError("is larger than most_stretch", where="least_stretch")
        for name, whole, part in (
            ("image_size", self.image_size, PATCH),
            ("width", self.width, 2 * self.heads),
            ("vision_width", self.vision_width, VISION_HEADS),
            ("layers", self.layers, self.first_layers),
        ):
            if whole % part:
                raise ConfigError(f"{whole} is no multiple of {part}", where=name)

    @classmethod
    def with_overrides(cls, assignments: Sequence[str]) -> Recipe:
        """The default recipe with some numbers changed, each given as `key=value`.

        Raises:
            ConfigError: unknown key, or a value that is not a number, or not a possible one.
        """
        defaults = {field.name: field.default for field in fields(cls) if isinstance(field.default, int | float)}
        values: dict[str, Any] = {}
        for assignment in assignments:
            key, _, text = assignment.partition("=")
            if key not in defaults:
                raise ConfigError(f"unknown number {key!r}", where="recipe", hint=nearest_of(key, defaults))
            try:
                values[key] = type(defaults[key])(text)
            except ValueError:
                kind = "whole number" if isinstance(defaults[key], int) else "number"
                raise ConfigError(f"{text[:40]!r} is not a {kind}", where=key) from None
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


VISION_HEADS = 4
_SEED, _COUNT, _RATE = (0, 2**32 - 1), (0, 100), (1e-9, 1.0)
_BOUNDS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("seed", "world_seed"), _SEED),
    **dict.fromkeys(("num_scenes", "warm_up", "checkpoint_every", "validate_every"), (1, 10**6)),
    "validation_scenes": (1, 10**4),
    **dict.fromkeys(("attribute_epochs", "answer_epochs", "depth_epochs"), (0.0, 1000.0)),
    **dict.fromkeys(("attribute_batch", "answer_batch", "depth_batch"), (1, 4096)),
    **dict.fromkeys(("attribute_lr", "answer_lr", "depth_lr", "connector_lr"), _RATE),
    "weight_decay": (0.0, 1.0),
    "long_plans": (1, 100),
    **dict.fromkeys(("short_plans", "road_users", "motions"), _COUNT),
    "perception": (0, len(PERCEPTION)),
    "stretched": (0.0, 1.0),
    **dict.fromkeys(("least_stretch", "most_stretch"), (-10.0, 2.0)),
    "clip": (1e-9, 1e9),
    "image_size": (PATCH, 36 * PATCH),
    "num_view_tokens": (1, 256),  # six views and a question stay within the 2048 positions of the model
    **dict.fromkeys(("vision_width", "width"), (1, 1024)),
    "heads": (1, 64),
    "mlp": (1, 4096),
    "vision_layers": (2, 100),
    **dict.fromkeys(("first_layers", "layers"), (1, 100)),
}
"""Least and largest value of each number."""
