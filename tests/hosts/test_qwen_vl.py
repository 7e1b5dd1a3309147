"""Qwen2.5-VL and Qwen3-VL: received attention of images of any size, positions of three axes, and what is refused."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from senna_prune import Budget, prune, pruner_for
from senna_prune.errors import InputError, PruningError
from senna_prune.hosts.host import find_host
from tests.tiny_hosts import MROPE, QWEN, TWO, VIDEO, prompts, tiny_host

every_qwen = pytest.mark.parametrize("kind", MROPE)


@every_qwen
def test_scores_is_the_mean_attention_that_the_patches_of_a_token_receive(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = tiny_host(kind, "eager")
    inputs, host = prompts(processor, *TWO), find_host(model)
    assert host is not None
    tower, weights, merged = model.model.visual, [], []
    full = tower.blocks[1 if kind == "qwen2_5_vl" else -1].attn
    modeling = sys.modules[type(model).__module__]
    eager = modeling.eager_attention_forward

    def spy(module: Any, *args: Any, **kwargs: Any) -> Any:
        output = eager(module, *args, **kwargs)
        if module is full:
            weights.append(output[1][0])
        return output

    monkeypatch.setattr(modeling, "eager_attention_forward", spy)
    tower.merger.register_forward_hook(lambda module, args, output: merged.append(output))
    arguments = {name: inputs[name] for name in ("pixel_values", "image_grid_thw")}
    with torch.no_grad():
        outputs, scores = host.encode_with_vision_scores(model.get_image_features, arguments)
    sizes = [len(image) for image in outputs.pooler_output]
    assert len(set(sizes)) > 1, "the images should differ in size"
    # In the order of the tower, then in the order in which the decoder gets the tokens.
    as_computed = torch.cat([w.mean((0, 1)).view(-1, 4).mean(1) * w.shape[-1] for w in weights])
    order = [int((merged[0] == token).all(dim=1).nonzero()) for token in torch.cat(outputs.pooler_output)]
    assert (order == sorted(order)) == (kind != "qwen2_5_vl"), "windows should change the order"
    torch.testing.assert_close(scores.score, as_computed[order], atol=1e-5, rtol=1e-4)
    # Images of different sizes compete evenly: the mean score of each is 1.
    for own in scores.score.split(sizes):
        assert float(own.mean()) == pytest.approx(1, abs=1e-4)


def test_a_tower_that_never_sees_the_whole_image_is_refused_where_scores_are_needed() -> None:
    model, _ = tiny_host("qwen2_5_vl")
    model.model.visual.fullatt_block_indexes = [QWEN["depth"]]
    policy = pruner_for(model, "fastervlm", Budget.retention(0.5))
    with pytest.raises(PruningError, match=r"no block .* whole image"), prune(model, policy):
        pass


@every_qwen
def test_repacked_positions_are_refused_with_the_reason(kind: str) -> None:
    model, _ = tiny_host(kind)
    policy = pruner_for(model, "fastervlm", Budget.retention(0.5), positions="repacked")
    with pytest.raises(PruningError, match=r"option positions: .*follow from the images.*M-RoPE"), prune(model, policy):
        pass


@every_qwen
def test_videos_are_refused(kind: str) -> None:
    model, processor = tiny_host(kind)
    ids = processor.tokenizer(f"See {VIDEO} now", return_tensors="pt").input_ids
    policy = pruner_for(model, "none")
    with torch.no_grad(), prune(model, policy), pytest.raises(PruningError, match="videos cannot be pruned"):
        model(input_ids=ids)


@pytest.mark.parametrize("layer", [0, 1])
@torch.no_grad()
def test_features_behind_a_layer_reach_the_tokens_that_are_left(layer: int) -> None:
    """Logits hang on the features that belong to kept tokens, and on no others."""
    model, processor = tiny_host("qwen3_vl")
    inputs, policy = prompts(processor, TWO[1]), pruner_for(model, "uniform", Budget.retention(0.25))
    with prune(model, policy) as trace:
        encoded = model.model.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"], return_dict=True)
        rest = {name: value for name, value in inputs.items() if name != "pixel_values"}
        plain = model(**rest, mm_encoder_outputs={"image": encoded}).logits
        kept = trace.samples[0].origins[0].tolist()
        found = []
        for token in range(len(encoded.pooler_output[0])):
            features = [[image.clone() for image in images] for images in encoded.deepstack_features]
            features[layer][0][token] += 1.0
            changed = type(encoded)(pooler_output=encoded.pooler_output, deepstack_features=features)
            logits = model(**rest, mm_encoder_outputs={"image": changed}).logits
            if not torch.equal(logits, plain):
                found.append(token)
    assert found == kept and len(kept) < token


@torch.no_grad()
def test_the_load_of_experts_is_no_loss_under_pruning() -> None:
    model, processor = tiny_host("qwen3_vl_moe")
    inputs, policy = prompts(processor, TWO[1]), pruner_for(model, "fastv", Budget.retention(0.5))
    with prune(model, policy), pytest.raises(InputError, match=r"^output_router_logits: "):
        model(**inputs, output_router_logits=True)
    model.config.text_config.output_router_logits = True
    with pytest.raises(PruningError, match=r"^output_router_logits: "), prune(model, policy):
        pass
