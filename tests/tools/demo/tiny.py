"""The smallest recipe that takes every step of training."""

from tools.demo.training.recipe import Recipe

TINY = Recipe(
    num_scenes=6,
    attribute_batch=3,
    answer_batch=2,
    depth_batch=2,
    attribute_epochs=1.0,
    answer_epochs=1.0,
    short_plans=1,
    perception=2,
    validate_every=2,
    validation_scenes=2,
    warm_up=2,
    checkpoint_every=1,
    image_size=28,
    num_view_tokens=2,
    vision_width=16,
    vision_layers=2,
    width=24,
    first_layers=1,
    layers=2,
    depth_epochs=1.0,
    heads=2,
    mlp=32,
)
