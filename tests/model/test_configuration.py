"""SennaConfig: the released shape by default, any other by dictionary."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoConfig

from senna_prune.errors import CheckpointError
from senna_prune.model import SennaConfig
from tests.fakes import tiny_config


def test_defaults_are_the_released_model() -> None:
    config = SennaConfig()
    assert (config.num_views, config.num_view_tokens, config.num_patches) == (6, 128, 576)
    assert config.num_vision_layers == 23, "hidden state -2 of 24 layers is the output of the 23rd"
    text = config.text_config
    assert (text.num_hidden_layers, text.hidden_size, text.intermediate_size) == (32, 4096, 11008)
    assert config.image_token_id == text.vocab_size == 32000


def test_round_trip_keeps_everything(tmp_path: Path) -> None:
    config = tiny_config(num_layers=3, num_view_tokens=5)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, SennaConfig)
    assert json.loads(loaded.to_json_string()) == json.loads(config.to_json_string())
    assert loaded.num_view_tokens == 5
    assert loaded.image_token_id == 512


@pytest.mark.parametrize(("layer", "layers"), [(-1, 3), (-2, 2), (-4, 0), (0, 0), (2, 2), (3, 3)])
def test_vision_layers_that_run(layer: int, layers: int) -> None:
    config = tiny_config()
    assert SennaConfig(vision_config=config.vision_config, vision_feature_layer=layer).num_vision_layers == layers


@pytest.mark.parametrize("layer", [-5, 4])
def test_a_layer_the_tower_lacks_is_refused(layer: int) -> None:
    with pytest.raises(CheckpointError, match="vision_feature_layer"):
        SennaConfig(vision_config=tiny_config().vision_config, vision_feature_layer=layer)


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("text_config", "num_hidden_layers", 10**9),
        ("text_config", "num_attention_heads", 0),
        ("text_config", "rope_theta", float("nan")),
        ("text_config", "rms_norm_eps", float("inf")),
        ("vision_config", "patch_size", 0),
        ("vision_config", "image_size", -1),
        ("vision_config", "layer_norm_eps", 0.0),
    ],
)
def test_numbers_no_model_has_are_refused_before_anything_is_built(part: str, field: str, value: float) -> None:
    fields = {"model_type": "llama" if part == "text_config" else "clip_vision_model", field: value}
    with pytest.raises(CheckpointError, match=f"{field} of {part} is"):
        SennaConfig(**{part: fields})
