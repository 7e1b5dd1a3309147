"""All numbers of the demo driver's training in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from senna_prune.errors import ConfigError
from senna_prune.model.configuration import SennaConfig


@dataclass(frozen=True)
class Recipe:
    """How the demo driver is trained. The defaults give the bundled model.

    Attributes:
        seed: of weights, order and questions.
        world_seed: of the training scenes; validation scenes have another.
        num_scenes: training scenes, seen once per epoch.
        attribute_epochs, attribute_batch, attribute_lr: stage 1, attributes per picture.
        answer_epochs, answer_batch, answer_lr, vision_lr: stage 2, answers; the vision side has its own rate.
        long_plans, short_plans, perception: questions about each scene in stage 2.
        warm_up: steps of linear warm-up of either stage, before a cosine.
        clip: largest gradient norm.
        checkpoint_every: steps between checkpoints.
        image_size, num_view_tokens, vision_width, vision_layers, width, layers, heads, mlp: of the model.
    """

    seed: int = 0
    world_seed: int = 100
    num_scenes: int = 10240
    attribute_epochs: float = 2.0
    attribute_batch: int = 32
    attribute_lr: float = 1e-3
    answer_epochs: float = 2.0
    answer_batch: int = 16
    answer_lr: float = 1e-3
    vision_lr: float = 2e-4
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    long_plans: int = 2
    short_plans: int = 3
    perception: int = 6
    warm_up: int = 100
    clip: float = 1.0
    checkpoint_every: int = 100
    image_size: int = 112
    num_view_tokens: int = 24
    vision_width: int = 128
    vision_layers: int = 5
    width: int = 192
    layers: int = 8
    heads: int = 6
    mlp: int = 512

    @classmethod
    def with_overrides(cls, assignments: Sequence[str]) -> Recipe:
        """The default recipe with some numbers changed, each given as `key=value`.

        Raises:
            ConfigError: unknown key, or a value that is not a number.
        """
        defaults = {field.name: field.default for field in fields(cls) if isinstance(field.default, int | float)}
        values: dict[str, Any] = {}
        for assignment in assignments:
            key, _, text = assignment.partition("=")
            if key not in defaults:
                raise ConfigError(f"unknown number {key!r}", where="recipe", hint=f"use one of {', '.join(defaults)}")
            try:
                values[key] = type(defaults[key])(text)
            except ValueError:
                raise ConfigError(f"{text!r} is not a number", where=key) from None
        return cls(**values)

    def model_config(self, vocab_size: int) -> SennaConfig:
        """The model's configuration; special tokens as `tokenizer.train_tokenizer` numbers them."""
        return SennaConfig(
            vision_config={
                "hidden_size": self.vision_width,
                "intermediate_size": 4 * self.vision_width,
                "num_hidden_layers": self.vision_layers,
                "num_attention_heads": 4,
                "image_size": self.image_size,
                "patch_size": 14,
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
