"""Qwen2.5-VL: received attention of images of any size, positions of three axes, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl

from senna_prune import Budget, prune, pruner_for
from senna_prune.errors import PruningError
from senna_prune.hosts.qwen2_5_vl import Qwen25VLHost
from tests.tiny_hosts import QWEN, TWO, VIDEO, prompts, tiny_host


def test_scores_is_the_mean_attention_that_the_patches_of_a_token_receive(monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = tiny_host("qwen2_5_vl", "eager")
    inputs = prompts(processor, *TWO)
    tower, weights, merged = model.model.visual, [], []
    full = tower.blocks[1].attn
    eager = modeling_qwen2_5_vl.eager_attention_forward

    def spy(module: Any, *args: Any, **kwargs: Any) -> Any:
        output = eager(module, *args, **kwargs)
        if module is full:
            weights.append(output[1][0])
        return output

    monkeypatch.setattr(modeling_qwen2_5_vl, "eager_attention_forward", spy)
    tower.merger.register_forward_hook(lambda module, args, output: merged.append(output))
    arguments = {name: inputs[name] for name in ("pixel_values", "image_grid_thw")}
    with torch.no_grad():
        outputs, scores = Qwen25VLHost(model).encode_with_vision_scores(model.get_image_features, arguments)
    sizes = [len(image) for image in outputs.pooler_output]
    assert len(set(sizes)) > 1, "the images should differ in size"
    # In the order of windows, then in the order in which the decoder gets the tokens.
    by_window = torch.cat([w.mean((0, 1)).view(-1, 4).mean(1) * w.shape[-1] for w in weights])
    order = [int((merged[0] == token).all(dim=1).nonzero()) for token in torch.cat(outputs.pooler_output)]
    assert order != sorted(order), "the windows should change the order"
    torch.testing.assert_close(scores.score, by_window[order], atol=1e-5, rtol=1e-4)
    # Images of different sizes compete evenly: the mean score of each is 1.
    for own in scores.score.split(sizes):
        assert float(own.mean()) == pytest.approx(1, abs=1e-4)


def test_a_tower_that_never_sees_the_whole_image_is_refused_where_scores_are_needed() -> None:
    model, _ = tiny_host("qwen2_5_vl")
    model.model.visual.fullatt_block_indexes = [QWEN["depth"]]
    policy = pruner_for(model, "fastervlm", Budget.retention(0.5))
    with pytest.raises(PruningError, match=r"no block .* whole image"), prune(model, policy):
        pass


def test_repacked_positions_are_refused_with_the_reason() -> None:
    model, _ = tiny_host("qwen2_5_vl")
    policy = pruner_for(model, "fastervlm", Budget.retention(0.5), positions="repacked")
    with pytest.raises(PruningError, match=r"option positions: .*follow from the images.*M-RoPE"), prune(model, policy):
        pass


def test_videos_are_refused() -> None:
    model, processor = tiny_host("qwen2_5_vl")
    ids = processor.tokenizer(f"See {VIDEO} now", return_tensors="pt").input_ids
    policy = pruner_for(model, "none")
    with torch.no_grad(), prune(model, policy), pytest.raises(PruningError, match="videos cannot be pruned"):
        model(input_ids=ids)


def test_releases_that_join_the_axes_in_each_layer_are_refused() -> None:
    model, processor = tiny_host("qwen2_5_vl")

    def older(module: Any, args: Any, kwargs: Any) -> Any:
        tables = tuple(table.expand(3, *table.shape) for table in kwargs["position_embeddings"])
        return args, kwargs | {"position_embeddings": tables}

    model.model.language_model.layers[0].register_forward_pre_hook(older, with_kwargs=True)
    policy = pruner_for(model, "fastervlm", Budget.retention(0.5))
    with torch.no_grad(), prune(model, policy), pytest.raises(PruningError, match=r"three axes.*5\.18 or newer"):
        model(**prompts(processor, *TWO))
