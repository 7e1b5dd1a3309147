"""LLaVA-1.5: what its tower saw, with a class token and without; prompts that are refused."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration

from senna_prune import Budget, prune, pruner_for
from senna_prune.errors import InputError, PruningError, SennaPruneError
from senna_prune.hosts.host import find_host, layouts_of
from senna_prune.hosts.llava import LlavaHost
from tests.tiny_hosts import CLIP, TEXT, TWO, prompts, tiny_host


def look(model: Any, inputs: dict[str, Any]) -> tuple[Any, Any]:
    with torch.no_grad():
        return LlavaHost(model).encode_with_vision_scores(
            model.get_image_features, {"pixel_values": inputs["pixel_values"]}
        )


@pytest.mark.parametrize("feature_layer", [-2, -1, 2, [-3, -1]])
def test_scores_is_the_class_tokens_attention_in_the_layer_of_the_features(feature_layer: Any) -> None:
    model, processor = tiny_host("llava", "eager")
    inputs = prompts(processor, *TWO)
    model.config.vision_feature_layer = feature_layer
    model = LlavaForConditionalGeneration._from_config(model.config, attn_implementation="eager").eval()
    one = feature_layer if isinstance(feature_layer, int) else max(feature_layer)
    _, scores = look(model, inputs)
    with torch.no_grad():
        seen = model.model.vision_tower(inputs["pixel_values"], output_attentions=True)
    expected = seen.attentions[one if one < 0 else one - 1][:, :, 0, 1:].mean(1)
    torch.testing.assert_close(scores.score.view(3, 16), expected, atol=1e-6, rtol=1e-5)
    assert scores.keys.shape == (48, 8)


def test_a_tower_without_a_class_token_scores_by_received_attention() -> None:
    config = LlavaConfig(
        vision_config={"model_type": "siglip_vision_model", **CLIP, "vision_use_head": False},
        text_config={"model_type": "llama", **TEXT},
        image_token_id=5,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    model = LlavaForConditionalGeneration._from_config(config, attn_implementation="eager").eval()
    pixels = torch.randn(2, 3, 56, 56)
    _, scores = look(model, {"pixel_values": pixels})
    with torch.no_grad():
        weights = model.model.vision_tower(pixels, output_attentions=True).attentions[-1]
    torch.testing.assert_close(scores.score.view(2, 16), 16 * weights.mean((1, 2)), atol=1e-5, rtol=1e-4)


def test_adjacent_images_are_apart_and_broken_runs_are_refused() -> None:
    ids = torch.tensor([1, 9, 9, 9, 9, 9, 2])
    (layout,) = layouts_of([ids], 9, [2, 3])
    assert list(layout.views.values()) == [range(1, 3), range(3, 6)]
    read = partial(layouts_of, [ids], 9)
    with pytest.raises(InputError, match="3 image placeholders have no image"):
        read([2])
    with pytest.raises(InputError, match="1 images have no placeholders"):
        read([2, 3, 4])
    with pytest.raises(InputError, match="image 0 do not stand in one run"):
        read([6])
    with pytest.raises(InputError, match="image 0 do not stand in one run"):
        layouts_of([torch.tensor([9, 1, 9])], 9, [2])


def test_the_bare_model_is_a_host_too() -> None:
    model, processor = tiny_host("llava")
    inputs = prompts(processor, *TWO)
    assert isinstance(find_host(model.model), LlavaHost)
    policy = pruner_for(model.model, "fastervlm", Budget.retention(0.5))
    with torch.no_grad(), prune(model.model, policy) as trace:
        model.model(**inputs)
    assert [sample.entering[0] for sample in trace.samples] == [16, 8]


def test_a_prompt_read_in_pieces_is_refused() -> None:
    model, processor = tiny_host("llava")
    inputs, policy = prompts(processor, *TWO), pruner_for(model, "fastv", Budget.retention(0.5))
    with torch.no_grad(), prune(model, policy):
        cache = model(input_ids=torch.tensor([[7, 8, 9]]), use_cache=True).past_key_values
        with pytest.raises(PruningError, match=r"images that follow a prompt .* in one pass"):
            model(input_ids=inputs["input_ids"], pixel_values=inputs["pixel_values"], past_key_values=cache)
        with pytest.raises(SennaPruneError):
            model.generate(**inputs, prefill_chunk_size=20, max_new_tokens=2)
