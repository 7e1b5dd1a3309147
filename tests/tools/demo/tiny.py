"""The smallest recipe that takes every step of training."""

from tools.demo.training.recipe import Recipe

TINY = Recipe(
    **{"num_scenes": 6, "tower_steps": 2, "tower_batch": 3, "answer_steps": 3, "answer_batch": 2, "perception": 2},
    **{"short_plans": 1, "validate_every": 2, "validation_scenes": 2, "checkpoint_every": 1, "image_size": 28},
    **{"num_view_tokens": 2, "vision_width": 16, "vision_layers": 2, "width": 24, "layers": 2, "heads": 2, "mlp": 32},
)
